// node ws-server.mjs: an echo server on `ws`; prints its port and runs until it is killed.

import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 32 * 1024 * 1024 });

server.on("connection", (socket) => {
  socket.on("message", (data, binary) => socket.send(data, { binary }));
  socket.on("error", () => {});
});
server.on("listening", () => console.log(server.address().port));
