// node many.mjs PORT COUNT: send so many messages at once by polling, with each client, and wait for the last one's echo.

import { ALL, Inbox, name, once, open, print, ready } from "./clients.mjs";

const [port, count] = process.argv.slice(2).map(Number);

async function send(kind) {
  const socket = open(port, { ...kind, query: { account: name(kind).replaceAll(" ", "-") } });
  const inbox = new Inbox(socket);
  await ready(socket, kind);
  for (let index = 0; index < count; index++) socket.send(`m${index}`);
  const last = await inbox.take();
  const closed = once(socket, "close");
  socket.close();
  await closed;
  return { kind: name(kind), last };
}

for (const kind of ALL.filter(({ transports }) => transports[0] === "polling" && transports.length === 1)) print(await send(kind));
