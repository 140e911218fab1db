// node newcomer.mjs PORT [EVENT ARG...]: what a first client prints, which emits an event once it is open.

import { Socket } from "engine.io-client";

const [port, event, ...args] = process.argv.slice(2);
const account = process.env.ACCOUNT;
const socket = new Socket(`http://127.0.0.1:${port}`, { path: "/stream/", query: account ? { account } : {} });

const end = (text) => {
  console.log(text);
  process.exit();
};
socket.on("open", () => event && socket.send(JSON.stringify({ event, args: args.map((each) => JSON.parse(each)), id: 1 })));
socket.on("message", (message) => end(`message: ${message}`));
socket.on("error", (error) => end(`${error.message} ${error.description}: ${error.context?.responseText}`));
socket.on("close", (reason) => end(`close: ${reason}`));
