// Official clients that come back whenever they are closed, and write down what they see until they are told to leave.
//
// node returning.mjs PORT LOG NAMES [{"account", "session"}, ...]
//
// Each line of standard input is a word: `settle` lets none go by itself any more, `leave` lets all go for good.

import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { open } from "./clients.mjs";

const [port, log, names] = process.argv.slice(2);
const kinds = [["polling"], ["polling", "websocket"], ["websocket"]];
let settled = false;
let leaving = false;
const sockets = new Set();

const now = () => Number(process.hrtime.bigint()) / 1e9; // the clock of Python's time.monotonic
const between = (low, high) => low + Math.random() * (high - low);
const write = (what, record) => appendFileSync(log, JSON.stringify({ what, at: now(), ...record }) + "\n");

function live(name, number) {
  if (leaving) return;
  const socket = open(port, { transports: kinds[number % kinds.length], query: name });
  const until = now() + between(4, 15);
  let sid = null;
  let said = 0;
  let timer = null;
  sockets.add(socket);
  const talk = () => {
    if (!settled && now() > until) return socket.go();
    socket.send(JSON.stringify({ event: "say", args: [++said] }));
    timer = setTimeout(talk, between(300, 1200));
  };
  // At once: a client that is about to upgrade closes only once that is over.
  socket.go = () => {
    lost("left");
    socket.close();
  };
  const lost = (reason) => {
    clearTimeout(timer);
    if (!sockets.delete(socket)) return;
    if (sid) write("closed", { sid, reason: String(reason) });
    setTimeout(live, between(50, 500), name, number);
  };
  socket.on("handshake", (data) => {
    sid = data.sid;
    write("opened", { sid, ...name });
  });
  socket.on("open", () => (timer = setTimeout(talk, between(300, 1200))));
  socket.on("message", (text) => {
    const { event, args } = JSON.parse(text);
    if (event === "promise" && sockets.has(socket)) write("arrived", { sid, mark: args });
  });
  socket.on("close", lost);
  socket.on("error", lost);
}

for await (const word of (JSON.parse(names).forEach(live), createInterface({ input: process.stdin }))) {
  if (word === "settle") settled = true;
  if (word === "leave") {
    leaving = true;
    for (const socket of sockets) socket.go();
    break;
  }
}
setTimeout(() => process.exit(0), 1000);
