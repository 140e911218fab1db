// node socketio.mjs PORT: what clients of Socket.IO hear when they connect to the stream.

import io4 from "socket.io-client";
import io3 from "socket.io-client-3";
import io2 from "socket.io-client-2";
import { once, print } from "./clients.mjs";

const port = Number(process.argv[2]);
const query = { account: "a" };
// Those of version 2 wait in silence for a word of the server, unless they want a namespace; the word is then `error`.
const KINDS = [
  { version: 4, connect: io4, event: "connect_error", namespaces: ["/", "/chat"] },
  { version: 3, connect: io3, event: "connect_error", namespaces: ["/", "/chat"] },
  { version: 2, connect: io2, event: "error", namespaces: ["/chat"] },
];

async function refused({ version, connect, event }, namespace, transports) {
  const auth = { token: 'a "secret", {}' };
  const socket = connect(`http://127.0.0.1:${port}${namespace}`, { path: "/stream/", query, transports, auth, forceNew: true });
  const [error] = await once(socket, event);
  const opened = socket.io.engine?.id !== undefined;
  print({ version, namespace, transport: transports[0], message: error.message, opened });
  socket.close();
}

await Promise.all(
  KINDS.flatMap((kind) =>
    kind.namespaces.flatMap((namespace) =>
      [["polling"], ["websocket"], ["polling", "websocket"]].map((transports) => refused(kind, namespace, transports)),
    ),
  ),
);
process.exit(0); // some go on to ask
