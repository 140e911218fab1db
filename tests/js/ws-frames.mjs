// node ws-frames.mjs FILE: decode with `ws` the frames of FILE, and encode its messages with `ws`.
// FILE is JSON: {"frames": base64 of a server's frames, "messages": [{"opcode", "fin", "data": base64}]}.

import { readFileSync } from "node:fs";
import { Receiver, Sender } from "ws";

const { frames, messages } = JSON.parse(readFileSync(process.argv[2]));
const heard = [];
const receiver = new Receiver({ isServer: false, maxPayload: 0 });

const hear = (name) => (data, isBinary) => heard.push([isBinary ? "binary" : name, data.toString("base64")]);

receiver.on("message", hear("text")).on("ping", hear("ping")).on("pong", hear("pong"));
receiver.on("conclude", (code, reason) => {
  heard.push(["close", code, reason.toString()]);
  const sent = messages.flatMap(({ opcode, fin, data }) =>
    Sender.frame(Buffer.from(data, "base64"), { opcode, fin, rsv1: false, mask: true, readOnly: true }),
  );
  console.log(JSON.stringify({ heard, sent: Buffer.concat(sent).toString("base64") }));
});
receiver.end(Buffer.from(frames, "base64"));
