// Benchmark server: Socket.IO 4 for Node.js, with echo and fan-out of events.
// Usage: node socket-io.cjs PORT [FILE]     FILE holds a certificate and its key

const { readFileSync } = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { Server } = require("../peers/node_modules/socket.io");

const NEWS = "hello broadcast payload";
const [port, file] = process.argv.slice(2);
const pem = file && readFileSync(file);
const front = pem ? https.createServer({ key: pem, cert: pem }) : http.createServer();
const server = new Server(front);

server.on("connection", (socket) => {
  socket.on("echo", (text) => {
    if (typeof text === "string") socket.emit("echo", text);
  });
  socket.on("b", () => server.emit("news", NEWS));
});

front.listen({ port, host: "127.0.0.1", backlog: 4096 });
