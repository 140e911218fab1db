// Benchmark server: Socket.IO 4 with connection state recovery, which feeds clients that drop; alone, or one node of
// several with the Redis streams adapter.
// Usage: node socket-io-feed.cjs PORT [REDIS-PORT]

const http = require("node:http");
const { Redis } = require("../peers/node_modules/ioredis");
const { createAdapter } = require("../peers/node_modules/@socket.io/redis-streams-adapter");
const { Server } = require("../peers/node_modules/socket.io");

// As in benchmarks/servers/feed.py.
const PERIOD = 100;
const FOR_EACH_DIRECT = 5;

const [port, redisPort] = process.argv.slice(2).map(Number);
const front = http.createServer();
const server = new Server(front, {
  connectionStateRecovery: { maxDisconnectionDuration: 120_000 },
  ...(redisPort && { adapter: createAdapter(new Redis(redisPort, "127.0.0.1")) }),
});

function feed(clients, count) {
  const begin = performance.now();
  let number = 0;
  const send = () => {
    server.to("room").emit("room", number);
    if (number % FOR_EACH_DIRECT === 0) {
      for (let client = 0; client < clients; client++) {
        server.to(`client-${client}`).emit("direct", number / FOR_EACH_DIRECT);
      }
    }
    if (++number < count) setTimeout(send, begin + number * PERIOD - performance.now());
  };
  send();
}

server.on("connection", (socket) => {
  socket.on("who", (client, done) => {
    socket.join(["room", `client-${client}`]);
    done(true);
  });
  socket.on("begin", feed);
});

front.listen({ port, host: "127.0.0.1", backlog: 4096 });
