// node ws-client.mjs PORT SEED CONNECTIONS EXCHANGES: talk to an echo server with `ws`, at random but repeatably.
// Prints for each connection what was agreed, how many messages and pings came back, and how it was closed.

import WebSocket from "ws";

const [port, seed, connections, exchanges] = process.argv.slice(2).map(Number);
const SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 65537];
const CODES = [1000, 1001, 1003, 1007, 1008, 1009, 1011, 1013, 3000, 3999, 4000, 4999];
const WORDS = ["a", "é", "€", "😀", "\u0000", "\u2028", "lorem ipsum ", "{}"];

let state = seed;

function random() {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
}

const below = (limit) => Math.floor(random() * limit);
const pick = (list) => list[below(list.length)];
const chance = (share) => random() < share;

function compression() {
  if (chance(0.4)) return false;
  const options = { threshold: 0, serverNoContextTakeover: chance(0.5), clientNoContextTakeover: chance(0.5) };
  if (chance(0.5)) options.serverMaxWindowBits = 9 + below(7);
  if (chance(0.5)) options.clientMaxWindowBits = 8 + below(8);
  return options;
}

function content() {
  const size = chance(0.7) ? pick(SIZES) : below(5000);
  if (chance(0.5)) return Buffer.from(Array.from({ length: size }, () => below(256)));
  let text = "";
  while (text.length < size) text += pick(WORDS);
  return Array.from(text).slice(0, size).join("");
}

// Cut a message at random; text is cut between characters, as `ws` sends each fragment as text.
function cut(data) {
  const whole = typeof data === "string" ? Array.from(data) : data;
  const marks = Array.from({ length: chance(0.5) ? 0 : 1 + below(5) }, () => below(whole.length + 1));
  const cuts = [0, ...marks.sort((one, other) => one - other), whole.length];
  const parts = cuts.slice(1).map((end, index) => whole.slice(cuts[index], end));
  return parts.map((part) => (typeof data === "string" ? part.join("") : part));
}

async function exchange(socket) {
  const data = content();
  const parts = cut(data);
  const compress = chance(0.8);
  const pings = [];
  const pongs = [];
  const onPong = (payload) => pongs.push(payload.toString("hex"));
  socket.on("pong", onPong);
  const answer = new Promise((resolve) => socket.once("message", (message, isBinary) => resolve([message, isBinary])));
  parts.forEach((part, index) => {
    socket.send(part, { fin: index === parts.length - 1, compress });
    if (chance(0.3)) {
      const payload = Buffer.from(Array.from({ length: below(126) }, () => below(256)));
      pings.push(payload.toString("hex"));
      socket.ping(payload);
    }
  });
  const [message, isBinary] = await answer;
  // A ping behind the last fragment is answered behind the message.
  while (pongs.length < pings.length) await new Promise((resolve) => socket.once("pong", resolve));
  socket.off("pong", onPong);
  if (isBinary !== Buffer.isBuffer(data) || !message.equals(Buffer.from(data))) throw new Error("another message");
  if (pongs.join() !== pings.join()) throw new Error(`pongs ${pongs} for pings ${pings}`);
  return pings.length;
}

async function converse() {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: compression() });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  const extensions = socket.extensions;
  let pings = 0;
  for (let count = 0; count < exchanges; count += 1) pings += await exchange(socket);
  const closed = new Promise((resolve) => socket.once("close", (code, reason) => resolve([code, reason.toString()])));
  const code = chance(0.2) ? undefined : pick(CODES);
  socket.close(code, code === undefined ? undefined : "x".repeat(below(124)));
  console.log(JSON.stringify({ extensions, messages: exchanges, pings, sent: code ?? 1005, got: (await closed)[0] }));
}

for (let count = 0; count < connections; count += 1) await converse();
