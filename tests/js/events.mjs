// node events.mjs PORT: send events as JSON and print what comes back, with each client.

import { ALL, Inbox, name, once, open, print, ready } from "./clients.mjs";

const port = Number(process.argv[2]);
const TEXTS = ["plain", "é€\u2028\u2029\u0000", "😀", ""];

async function talk(kind) {
  const socket = open(port, { ...kind, query: { account: "ann/é" } });
  const inbox = new Inbox(socket);
  await ready(socket, kind);
  const back = [];
  for (const [id, text] of TEXTS.entries()) {
    socket.send(JSON.stringify({ event: "say", args: [text, { nested: [text] }], id }));
    back.push(JSON.parse(await inbox.take()), JSON.parse(await inbox.take()));
  }
  const closed = once(socket, "close");
  socket.close();
  await closed;
  const expected = TEXTS.flatMap((text, id) => [
    { event: "said", args: ["ann/é", text, { nested: [text] }] },
    { ack: id, args: [[...text].length] },
  ]);
  return { kind: name(kind), back, expected };
}

for (const result of await Promise.all(ALL.map(talk))) print(result);
