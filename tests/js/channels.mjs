// node channels.mjs PORT: each official client joins a channel as far as it can, and prints what it hears.

import { createRequire } from "node:module";
import { ALL, Inbox, name, once, open, print, ready } from "./clients.mjs";

const require = createRequire(import.meta.url);
const Primus = require("primus");
const Socket = Primus.createSocket({
  transformer: "engine.io",
  pathname: "/stream",
  plugin: { emit: require("primus-emit") },
});

const port = Number(process.argv[2]);

async function engine(kind) {
  const socket = open(port, kind);
  const inbox = new Inbox(socket);
  await ready(socket, kind);
  const heard = [];
  for (const request of [
    { join: "lot:7", id: 1 },
    { join: "lot:07", id: 2 },
    { event: "bid", args: [5] },
    { leave: "lot:7", id: 3 },
    { event: "bid", args: [6], id: 4 },
  ]) {
    socket.send(JSON.stringify(request));
    heard.push(JSON.parse(await inbox.take()));
  }
  const closed = once(socket, "close");
  socket.close();
  await closed;
  return { kind: name(kind), heard };
}

async function primus() {
  const client = new Socket(`http://127.0.0.1:${port}/?account=a`);
  const bid = once(client, "bid");
  await once(client, "open");
  client.emit("enter");
  client.emit("bid", 5);
  const heard = await bid;
  client.end();
  return { kind: "primus", heard };
}

for (const kind of ALL) print(await engine(kind));
print(await primus());
