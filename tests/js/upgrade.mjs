// node upgrade.mjs PORT COUNT: send and take COUNT numbered messages while the connection is upgraded, in several paces.

import { Inbox, once, open, pause, print } from "./clients.mjs";

const [port, count] = process.argv.slice(2).map(Number);

// How a client sends: so many at a time, so often, and what it waits for before it begins.
const PACES = [
  { size: count, wait: 0, from: "open" },
  { size: 10, wait: 0, from: "open" },
  { size: 25, wait: 1, from: "upgrading" },
  { size: count, wait: 0, from: "upgrading" },
];

async function exchange(protocol, pace, server, index) {
  const socket = open(port, { protocol, query: { pace: server, client: index } });
  const inbox = new Inbox(socket);
  let before = 0;
  const upgraded = once(socket, "upgrade").then(() => (before = received));
  let received = 0;
  socket.on("message", () => received++);
  let closed = null;
  socket.on("close", (reason) => (closed = reason));
  await once(socket, "open");
  if (pace.from !== "open") await once(socket, pace.from);
  for (let sent = 0; sent < count; sent += pace.size) {
    for (let number = sent; number < sent + pace.size; number++) socket.send(`${number}`);
    await pause(pace.wait);
  }
  await upgraded;
  const numbers = [];
  // The server ends with how many it has taken, once that are all.
  for (let message; !(message = await inbox.take()).startsWith("taken "); ) numbers.push(Number(message));
  const transport = socket.transport.name;
  const wrong = numbers.findIndex((number, place) => number !== place);
  const result = { index, pace: server, wrong, count: numbers.length, before, transport, closed };
  socket.close();
  return result;
}

const all = [4, 3].flatMap((protocol) =>
  PACES.flatMap((pace) => ["at once", "while probed", "timers", "in answer"].map((server) => [protocol, pace, server])),
);
for (const result of await Promise.all(all.map((each, index) => exchange(...each, index)))) print(result);
