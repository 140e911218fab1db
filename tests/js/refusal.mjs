// node refusal.mjs PORT: what clients hear when they are turned away.

import { ALL, name, once, open, print } from "./clients.mjs";

const port = Number(process.argv[2]);

async function refused(kind, account) {
  const socket = open(port, { ...kind, query: { account } });
  let body = null;
  socket.on("error", ({ context }) => (body = context?.responseText ?? null)); // it is gone later
  const [error] = await once(socket, "error");
  print({ kind: name(kind), account, message: error.message, status: error.description?.message ?? error.description, body });
}

for (const kind of ALL) await Promise.all(["", "mallory"].map((account) => refused(kind, account)));
