// Benchmark server: Socket.IO 4 with rooms, which clients join at their handshake or ask to join; alone, or one node
// of several with the Redis adapter.
// Usage: node socket-io-rooms.cjs PORT [REDIS-PORT]

const http = require("node:http");
const { Redis } = require("../peers/node_modules/ioredis");
const { createAdapter } = require("../peers/node_modules/@socket.io/redis-adapter");
const { Server } = require("../peers/node_modules/socket.io");

const NEWS = "hello broadcast payload";
const [port, redisPort] = process.argv.slice(2).map(Number);
const front = http.createServer();
const server = new Server(front);
if (redisPort) {
  const publisher = new Redis(redisPort, "127.0.0.1");
  server.adapter(createAdapter(publisher, publisher.duplicate()));
}

server.on("connection", (socket) => {
  const count = Number(socket.handshake.query.rooms);
  for (let number = 0; number < count; number++) socket.join(`room-${number}`);
  socket.on("room", () => server.to("room-0").emit("news", NEWS));
  socket.on("join", (room, done) => {
    socket.join(room);
    done();
  });
  socket.on("leave", (room, done) => {
    socket.leave(room);
    done();
  });
});

front.listen({ port, host: "127.0.0.1", backlog: 4096 });
