// node heartbeat.mjs PORT: heartbeats of all clients, then clients that do not answer, then a server that does not.

import { ALL, name, once, open, print, ready } from "./clients.mjs";

const port = Number(process.argv[2]);

const connect = () =>
  Promise.all(
    ALL.map(async (kind) => {
      const socket = open(port, kind);
      const each = { kind: name(kind), socket, beats: 0, closed: once(socket, "close") };
      // The event of a whole beat: protocol 4 answers the server's ping, protocol 3 gets its own answered.
      socket.on(kind.protocol === 4 ? "ping" : "pong", () => each.beats++);
      await ready(socket, kind);
      return each;
    }),
  );

const living = await connect();
while (living.some((each) => each.beats < 3)) await once(living.find((each) => each.beats < 3).socket, "packet");
for (const { kind, beats, socket } of living) print({ kind, alive: beats >= 3 && socket.readyState === "open" });

// Nothing runs in this process now: the server gets no answers.
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1800);
for (const { kind, closed } of living) print({ kind, dropped: (await closed).length > 0 });

const waiting = await connect();
waiting[0].socket.send(JSON.stringify({ event: "freeze" }));
for (const { kind, closed } of waiting) print({ kind, missed: (await closed)[0] });
