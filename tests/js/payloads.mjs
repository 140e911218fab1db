// node payloads.mjs PORT: polling in protocol 3 with the parser of its official client.
//
// In Node that client always asks for base64; browsers send and take binary payloads, as done here.

import { createRequire } from "node:module";
import { digest, print } from "./clients.mjs";

const require = createRequire(createRequire(import.meta.url).resolve("engine.io-client-3"));
const parser = require("engine.io-parser");

const port = process.argv[2];
const bytes = Buffer.from(Array.from({ length: 300 }, (_, index) => index % 256));
const TEXTS = ["text", "hé€", "😀 \u{1f468}\u200d\u{1f469}", "1:4", "\u2028\u0000", ""];
const MIXED = ["text", bytes, "hé€😀", Buffer.alloc(0), Buffer.from([4]), ""];

const encode = (contents, binary) =>
  new Promise((resolve) => parser.encodePayload(contents.map((data) => ({ type: "message", data })), binary, resolve));

async function exchange(contents, { base64 }) {
  const query = `EIO=3&transport=polling${base64 ? "&b64=1" : ""}`;
  const opened = await (await fetch(`http://127.0.0.1:${port}/stream/?account=a&${query}`)).text();
  const target = `http://127.0.0.1:${port}/stream/?${query}&sid=${/"sid":"([^"]*)"/.exec(opened)[1]}`;
  const body = await encode(contents, !base64);
  const binary = typeof body !== "string";
  const headers = { "Content-Type": binary ? "application/octet-stream" : "text/plain;charset=UTF-8" };
  const posted = await (await fetch(target, { method: "POST", headers, body })).text();
  const answer = await fetch(target);
  const type = answer.headers.get("content-type");
  const data = type.startsWith("text") ? await answer.text() : Buffer.from(await answer.arrayBuffer());
  const got = [];
  parser.decodePayload(data, "nodebuffer", (packet) => void got.push(packet.type === "message" ? digest(packet.data) : packet.type));
  return { binary, posted, type, wrong: contents.map(digest).filter((each, place) => each !== got[place]), count: got.length };
}

print(await exchange(TEXTS, { base64: false }));
print(await exchange(MIXED, { base64: false }));
print(await exchange(MIXED, { base64: true }));
