// Benchmark server: Socket.IO 4 with its Redis adapter, one node of several: fan-out, sends to rooms, look-ups.
// Usage: node socket-io-redis.cjs PORT REDIS-PORT

const http = require("node:http");
const { Redis } = require("../peers/node_modules/ioredis");
const { createAdapter } = require("../peers/node_modules/@socket.io/redis-adapter");
const { Server } = require("../peers/node_modules/socket.io");

const NEWS = "hello broadcast payload";
const [port, redisPort] = process.argv.slice(2).map(Number);
const publisher = new Redis(redisPort, "127.0.0.1");
const front = http.createServer();
const server = new Server(front, { adapter: createAdapter(publisher, publisher.duplicate()) });

server.on("connection", (socket) => {
  socket.join(socket.handshake.query.account);
  socket.on("b", () => server.emit("news", NEWS));
  socket.on("each", (count) => {
    for (let number = 0; number < count; number++) server.to(`a${number}`).emit("news", NEWS);
  });
  socket.on("find", async (count) => {
    const rooms = Array.from({ length: count }, (_, number) => server.in(`a${number}`).fetchSockets());
    const found = await Promise.all(rooms);
    if (found.every((sockets) => sockets.length === 1)) server.emit("news", NEWS);
  });
});

front.listen({ port, host: "127.0.0.1", backlog: 4096 });
