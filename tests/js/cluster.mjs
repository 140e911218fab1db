// Many official clients through a balancer: each sends numbered events and must get each back once, in order.
//
// node cluster.mjs PORT CLIENTS MESSAGES TRANSPORTS (polling | websocket | both) [PAUSE]
//
// PAUSE is for how many milliseconds a client waits at most, and at least half of them, after every fifth message.

import { open, once, print } from "./clients.mjs";

const [port, clients, messages, kind, pause = 20] = process.argv.slice(2);
const transports = kind === "both" ? ["polling", "websocket"] : [kind];

async function run(number) {
  const socket = open(port, { transports, query: { account: `${kind}${number}` } });
  const heard = [];
  let upgraded = false;
  socket.on("upgrade", () => (upgraded = true));
  await once(socket, "open");
  const done = new Promise((resolve, reject) => {
    socket.on("message", (text) => {
      const { event, args } = JSON.parse(text);
      if (event === "echo") heard.push(args[0]);
      if (heard.length === Number(messages)) resolve();
    });
    socket.on("close", (reason, { message, description, context } = {}) => {
      const why = [reason, message, description, context?.responseText].filter(Boolean).join(" ");
      reject(new Error(`client ${number} closed after ${heard.length}: ${why}`));
    });
  });
  done.catch(() => {}); // it is awaited once all is sent
  for (let i = 0; i < messages; i++) {
    socket.send(JSON.stringify({ event: "echo", args: [i] }));
    if (i % 5 === 0) await new Promise((resolve) => setTimeout(resolve, (0.5 + Math.random() / 2) * Number(pause)));
  }
  await done;
  await new Promise((resolve) => setTimeout(resolve, 200));
  const wrong = heard.findIndex((value, index) => value !== index);
  socket.removeAllListeners("close");
  socket.close();
  return { heard: heard.length, wrong, upgraded };
}

const results = await Promise.allSettled(Array.from({ length: Number(clients) }, (_, number) => run(number)));
const failed = results.filter(({ status }) => status === "rejected").map(({ reason }) => String(reason));
const values = results.filter(({ status }) => status === "fulfilled").map(({ value }) => value);
print({
  finished: values.length,
  failed: failed.slice(0, 5),
  failures: failed.length,
  disordered: values.filter(({ wrong }) => wrong >= 0).length,
  extra: values.filter(({ heard }) => heard !== Number(messages)).length,
  upgraded: values.filter(({ upgraded }) => upgraded).length,
});
process.exit(0);
