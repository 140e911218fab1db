// node closing.mjs PORT: close from the client's side, from the server's, and in the middle of an upgrade.

import { ALL, name, once, open, print, ready } from "./clients.mjs";

const port = Number(process.argv[2]);
const BOTH = ALL.filter(({ transports }) => transports.length > 1);

const emit = (socket, event) => socket.send(JSON.stringify({ event }));

function connect(kind, what) {
  const socket = open(port, { ...kind, query: { client: `${name(kind)} ${what}` } });
  const got = [];
  socket.on("message", (message) => got.push(JSON.parse(message).args));
  return { socket, got, closed: once(socket, "close") };
}

async function byClient(kind) {
  const { socket, closed } = connect(kind, "client");
  await ready(socket, kind);
  socket.close();
  print({ kind: name(kind), by: "client", reason: (await closed)[0] });
}

async function byServer(kind) {
  const { socket, got, closed } = connect(kind, "server");
  await ready(socket, kind);
  emit(socket, "end");
  const [reason, details] = await closed;
  // Clients of protocol 3 do not hand the close frame on.
  const { code, reason: text } = details?.context ?? {};
  print({ kind: name(kind), by: "server", reason, got, code, text });
}

async function byClientInUpgrade(kind) {
  const { socket, closed } = connect(kind, "client upgrading");
  await once(socket, "upgrading");
  socket.close();
  print({ kind: name(kind), by: "client upgrading", reason: (await closed)[0] });
}

async function byServerInUpgrade(kind) {
  const { got, closed } = connect(kind, "server upgrading");
  print({ kind: name(kind), by: "server upgrading", reason: (await closed)[0], got });
}

await Promise.all([...ALL.map(byClient), ...ALL.map(byServer), ...BOTH.map(byClientInUpgrade), ...BOTH.map(byServerInUpgrade)]);
