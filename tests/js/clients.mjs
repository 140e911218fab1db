// The official Engine.IO clients behind one face, for the scripts beside this file.

import { createHash } from "node:crypto";
import { Socket } from "engine.io-client";
import connect3 from "engine.io-client-3";

const DEADLINE = 20_000;

export const ALL = [4, 3].flatMap((protocol) =>
  [["polling"], ["websocket"], ["polling", "websocket"]].map((transports) => ({ protocol, transports })),
);

/** Open a connection to the server on a port of this machine. */
export function open(port, { protocol = 4, transports = ["polling", "websocket"], query, ...options } = {}) {
  const settings = { path: "/stream/", transports, query: { account: "a", ...query }, ...options };
  const address = `http://127.0.0.1:${port}`;
  return protocol === 4 ? new Socket(address, settings) : connect3(address, settings);
}

/** Wait for an event and return its arguments. */
export function once(emitter, name) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no event ${name} in ${DEADLINE} ms`)), DEADLINE);
    emitter.once(name, (...args) => {
      clearTimeout(timer);
      resolve(args);
    });
  });
}

/** Wait until the connection is open, and upgraded if it offers both transports. */
export function ready(socket, { transports }) {
  return once(socket, transports.length > 1 ? "upgrade" : "open");
}

/** Messages in the order they come; `take` waits for the next one. */
export class Inbox {
  constructor(socket) {
    this.waiting = [];
    this.wanted = null;
    socket.on("message", (message) => {
      if (this.wanted) this.wanted(message);
      else this.waiting.push(message);
    });
  }

  take() {
    if (this.waiting.length) return Promise.resolve(this.waiting.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no message in ${DEADLINE} ms`)), DEADLINE);
      this.wanted = (message) => {
        clearTimeout(timer);
        this.wanted = null;
        resolve(message);
      };
    });
  }
}

/** What can be compared of a message: its kind, its bytes and their hash. The clients say undefined for an empty text. */
export function digest(message = "") {
  const data = Buffer.from(message);
  const hash = createHash("sha256").update(data).digest("hex");
  return `${typeof message === "string" ? "text" : "binary"} ${data.length} ${hash}`;
}

export const name = ({ protocol, transports, forceBase64 }) =>
  [protocol, ...transports, ...(forceBase64 ? ["base64"] : [])].join(" ");

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Print a line for the test that runs the script. */
export const print = (object) => console.log(JSON.stringify(object));
