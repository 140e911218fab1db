// node subprotocols.mjs PORT OFFERED...: connect with these subprotocols by websocket and by an upgrade, and exchange a message.

import { Inbox, name, once, open, print, ready } from "./clients.mjs";

const [port, ...protocols] = process.argv.slice(2);

async function exchange(kind) {
  // That of protocol 3 hands on what is for one transport alone.
  const socket = open(Number(port), { ...kind, protocols, transportOptions: { websocket: { protocols } } });
  const inbox = new Inbox(socket);
  const refused = once(socket, "upgradeError").then(([error]) => error.message, () => null);
  const broken = once(socket, "error").then(([error]) => `${error.message}: ${error.description?.message}`, () => null);
  const outcome = await Promise.race([ready(socket, kind).then(() => "open"), refused, broken]);
  let back = null;
  if (socket.readyState === "open") {
    socket.send("hello");
    back = await inbox.take();
  }
  print({ kind: name(kind), outcome, back, transport: socket.transport.name, chosen: socket.transport.ws?.protocol ?? null });
  socket.close();
}

const kinds = [4, 3].flatMap((protocol) => [["websocket"], ["polling", "websocket"]].map((transports) => ({ protocol, transports })));
await Promise.all(kinds.map(exchange));
process.exit(0); // what else was waited for never comes
