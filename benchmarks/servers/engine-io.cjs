// Benchmark server: Engine.IO 6 for Node.js, with echo and fan-out of bare texts; lists are decoded.
// Usage: node engine-io.cjs PORT [FILE]     FILE holds a certificate and its key

const { readFileSync } = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const engine = require("../peers/node_modules/engine.io");

const NEWS = "hello broadcast payload";
const [port, file] = process.argv.slice(2);
const pem = file && readFileSync(file);
const front = pem ? https.createServer({ key: pem, cert: pem }) : http.createServer();
const server = engine.attach(front);

server.on("connection", (socket) => {
  socket.on("message", (text) => {
    if (text === "b") {
      for (const each of Object.values(server.clients)) each.send(NEWS);
    } else if (text.startsWith("[")) {
      JSON.parse(text);
    } else {
      socket.send(text);
    }
  });
});

front.listen({ port, host: "127.0.0.1", backlog: 4096 });
