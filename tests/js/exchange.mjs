// node exchange.mjs PORT LIMIT: send all kinds of messages to a raw server that echoes them, with each client.

import { ALL, Inbox, digest, name, once, open, print, ready } from "./clients.mjs";

const [port, limit] = process.argv.slice(2).map(Number);

const bytes = (size) => Buffer.from(Array.from({ length: size }, (_, index) => index % 256));

const CONTENTS = [
  "text",
  "",
  "é€ß\u0000\u2028\u2029",
  "😀 \u{1f468}\u200d\u{1f469} \u{10ffff}",
  '{"json": ["in text"]}',
  "1:2;b4AQ==",
  bytes(256),
  bytes(0),
  new Uint8Array([255, 0, 30, 128]).buffer,
];

function large({ protocol, transports, forceBase64 = false }) {
  const polling = transports.length === 1 && transports[0] === "polling";
  // Where only text can go binary data is base64; polling in protocol 3 puts a length before each packet.
  const room = limit - (polling && protocol === 3 ? 16 : 1);
  const binary = polling || forceBase64 ? Math.floor((room - 2) / 4) * 3 : room;
  return ["x".repeat(room), "€".repeat(room / 3), bytes(binary)];
}

async function echoes(kind) {
  const socket = open(port, kind);
  const inbox = new Inbox(socket);
  await ready(socket, kind);
  const wrong = [];
  for (const content of [...CONTENTS, ...large(kind)]) {
    socket.send(content);
    const echo = digest(await inbox.take());
    if (echo !== digest(content)) wrong.push([digest(content), echo]);
  }
  // At once: protocol 4 clients split what is larger than the server takes, those of protocol 3 do not.
  const many = Array.from({ length: 300 }, (_, index) => `${index} ${"€".repeat(kind.protocol === 4 ? 500 : 50)}`);
  for (const content of many) socket.send(content);
  for (const content of many) if ((await inbox.take()) !== content) wrong.push(content.slice(0, 10));
  const mixed = many.slice(0, 100).map((content, index) => (index % 3 ? content : Buffer.from(content)));
  for (const content of mixed) socket.send(content);
  for (const content of mixed) if (digest(await inbox.take()) !== digest(content)) wrong.push("mixed");
  const closed = once(socket, "close");
  socket.close();
  await closed;
  return { kind: name(kind), transport: socket.transport.name, wrong };
}

const kinds = [...ALL, ...ALL.map((kind) => ({ ...kind, forceBase64: true }))];
for (const result of await Promise.all(kinds.map(echoes))) print(result);
