// A client for Primacron in a browser, small enough to read: Engine.IO 4 over one
// websocket, events both ways, acknowledgements, and reconnection after every loss.
//
//   const stream = new Stream({ account: "ann" });
//   stream.on("lot", (lot) => ...);            // an event from the server
//   stream.emit("point", 0.5, 0.5);            // expects no answer; dropped while disconnected
//   await stream.call("bid", { cents: 100 });  // resolves with the answer, rejects with { type, message, path }
//   stream.onstate = (state, why) => ...;      // "connecting", "live", "waiting", "ended"; why it ended

const FIRST_DELAY = 300; // ms; doubled with every consecutive failure
const LONGEST_DELAY = 5000;
const FIRST_PACKET = 10000; // ms to wait for the server's open packet
const SETTLED = 5000; // ms that a connection must last to reset the backoff
const ENDED = { 1000: "the server ended the session", 4500: "another window took over this session" };

export class Stream {
  onstate = () => {};
  #url = new URL("/stream/", location.href);
  #socket = null;
  #listeners = new Map();
  #calls = new Map(); // number -> [resolve, reject]
  #lastCall = 0;
  #failures = 0;
  #openedAt = null; // when the open packet arrived, if it has
  #alarm = 0; // the current timer: for the heartbeat, or for the next attempt
  #patience = FIRST_PACKET;

  constructor(query) {
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#url.search = new URLSearchParams({ ...query, EIO: 4, transport: "websocket" });
    addEventListener("online", this.#online);
    queueMicrotask(() => this.#connect());
  }

  on(event, listener) {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
  }

  emit(event, ...args) {
    this.#send({ event, args });
  }

  call(event, ...args) {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastCall;
      this.#calls.set(id, [resolve, reject]);
      if (!this.#send({ event, args, id })) this.#fail({ type: "offline", message: "there is no connection now" });
    });
  }

  #send(envelope) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send("4" + JSON.stringify(envelope));
    return true;
  }

  #online = () => this.#socket || this.#connect();

  #connect() {
    clearTimeout(this.#alarm);
    this.#patience = FIRST_PACKET;
    this.#openedAt = null;
    this.onstate("connecting");
    const socket = (this.#socket = new WebSocket(this.#url));
    socket.onmessage = ({ data }) => this.#take(data[0], data.slice(1));
    socket.onclose = ({ code }) => this.#lost(code);
    this.#watch();
  }

  // Engine.IO: a digit for the type, then the data.
  #take(type, data) {
    if (type === "0") {
      const { pingInterval, pingTimeout } = JSON.parse(data);
      this.#patience = pingInterval + pingTimeout;
      this.#openedAt = Date.now();
      this.onstate("live");
    } else if (type === "2") {
      this.#socket.send("3");
    } else if (type === "4") {
      this.#hear(JSON.parse(data));
      return; // only a heartbeat proves that the server receives our answers
    }
    this.#watch();
  }

  #hear({ event, args, ack, error }) {
    if (ack === undefined) {
      for (const listener of this.#listeners.get(event) ?? []) listener(...args);
      return;
    }
    const [resolve, reject] = this.#calls.get(ack) ?? [];
    this.#calls.delete(ack);
    if (error) reject?.(error);
    else resolve?.(args.length > 1 ? args : args[0]);
  }

  // A dead network closes nothing: without a timely heartbeat the connection is considered lost.
  #watch() {
    clearTimeout(this.#alarm);
    this.#alarm = setTimeout(() => this.#lost(), this.#patience);
  }

  async #lost(code) {
    clearTimeout(this.#alarm);
    this.#socket.onclose = this.#socket.onmessage = null;
    this.#socket.close();
    this.#fail({ type: "lost", message: "the connection was lost before the answer: it may or may not have arrived" });
    const why = ENDED[code] ?? (this.#openedAt === null && (await this.#refusal()));
    this.#socket = null;
    if (why) return this.#end(why);
    if (this.#openedAt !== null && Date.now() - this.#openedAt > SETTLED) this.#failures = 0;
    // Jitter, so that clients disconnected by one fault do not all return at once.
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    this.#alarm = setTimeout(() => this.#connect(), delay);
    this.onstate("waiting");
  }

  #end(why) {
    removeEventListener("online", this.#online);
    this.onstate("ended", why);
  }

  // Browsers do not reveal why a websocket was refused; the response to a poll does.
  async #refusal() {
    const url = new URL(this.#url);
    url.protocol = location.protocol;
    url.searchParams.set("transport", "polling");
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(FIRST_PACKET) });
      if (answer.ok) {
        // Admitted after all: close this connection, and leave it to the next websocket.
        url.searchParams.set("sid", JSON.parse((await answer.text()).slice(1)).sid);
        await fetch(url, { method: "POST", body: "1" });
        return null;
      }
      const isFinal = answer.status < 500 && answer.status !== 429;
      return isFinal ? (await answer.json()).message : null;
    } catch {
      return null; // no answer: try again later
    }
  }

  #fail(error) {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const [, reject] of calls) reject(error);
  }
}
