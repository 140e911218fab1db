// A client for Primacron in a browser, small enough to read: Engine.IO 4 over one
// websocket, events both ways, acknowledgements, channels, and reconnection after every loss.
//
//   const stream = new Stream({ account: "ann" });
//   stream.on("lot", (lot) => ...);            // an event from the server
//   stream.emit("point", 0.5, 0.5);            // expects no answer; dropped while disconnected
//   await stream.call("bid", { cents: 100 });  // resolves with the answer, rejects with { type, message, path }
//   const sale = stream.join("sale", 20);      // a channel, with the last 20 messages kept
//   sale.on("bid", (name, cents) => ...);      // what is sent to it, each once and in order
//   sale.onlost = ({ from, to }) => ...;       // messages are lost; those that are left follow
//   sale.onmembers = (members) => ...;         // who is in it: [{ account, session, info }, ...]
//   sale.leave();
//   stream.onstate = (state, why) => ...;      // "connecting", "live", "waiting", "ended"; why it ended

const FIRST_DELAY = 300; // ms; doubled with every consecutive failure
const LONGEST_DELAY = 5000;
const FIRST_PACKET = 10000; // ms to wait for the server's open packet
const SETTLED = 5000; // ms that a connection must last to reset the backoff
const ENDED = { 1000: "the server ended the session", 4500: "another window took over this session" };

// A channel that is joined as often as the stream comes back, from where it was.
class Channel {
  onmembers = () => {};
  onlost = () => {};
  onrefusal = (error) => console.error(`channel ${this.name}`, error);
  #listeners = new Map();
  #members = new Map(); // session -> member
  #position = null; // of the last message
  #ask;
  #last;
  #forget;

  constructor(name, last, ask, forget) {
    this.name = name;
    this.#last = last;
    this.#ask = ask;
    this.#forget = forget;
  }

  on(event, listener) {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
  }

  leave() {
    this.#forget();
    this.#ask({ leave: this.name }).catch(() => {});
  }

  // Called by the stream

  async join() {
    const wanted = this.#position ? { since: this.#position } : this.#last ? { last: this.#last } : {};
    try {
      await this.#ask({ join: this.name, ...wanted });
    } catch (error) {
      if (error.type !== "lost" && error.type !== "offline") this.onrefusal(error);
    }
  }

  joined({ epoch, offset, members }) {
    if (epoch !== undefined) this.#position ??= { epoch, offset };
    if (members) this.#show(members);
  }

  hear({ event, args, offset, presence, members, gap, joined }) {
    if (event !== undefined) {
      if (offset !== undefined && this.#position) this.#position.offset = Math.max(offset, this.#position.offset);
      for (const listener of this.#listeners.get(event) ?? []) listener(...args);
    } else if (presence) {
      this.#change(presence);
    } else if (members) {
      this.#show(members);
    } else if (gap) {
      this.#position = { epoch: gap.epoch, offset: gap.to ?? gap.from - 1 };
      this.onlost(gap);
    } else if (joined) {
      this.joined(joined);
    }
  }

  #change(changes) {
    for (const [kind, member] of changes) {
      if (kind === "leave") this.#members.delete(member.session);
      else this.#members.set(member.session, member);
    }
    this.onmembers([...this.#members.values()]);
  }

  #show(members) {
    this.#members = new Map(members.map((member) => [member.session, member]));
    this.onmembers(members);
  }
}

export class Stream {
  onstate = () => {};
  #url = new URL("/stream/", location.href);
  #socket = null;
  #listeners = new Map();
  #channels = new Map();
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
    return this.#ask({ event, args });
  }

  join(name, last = 0) {
    const channel = new Channel(name, last, (envelope) => this.#ask(envelope), () => this.#channels.delete(name));
    this.#channels.set(name, channel);
    if (this.#openedAt !== null) channel.join();
    return channel;
  }

  #ask(envelope) {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastCall;
      this.#calls.set(id, [resolve, reject]);
      if (!this.#send({ ...envelope, id })) this.#fail({ type: "offline", message: "there is no connection now" });
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
      for (const channel of this.#channels.values()) channel.join();
    } else if (type === "2") {
      this.#socket.send("3");
    } else if (type === "4") {
      this.#hear(JSON.parse(data));
      return; // only a heartbeat proves that the server receives our answers
    }
    this.#watch();
  }

  #hear(envelope) {
    const { event, args, ack, error, channel } = envelope;
    if (channel !== undefined) {
      this.#channels.get(channel)?.hear(envelope);
      return;
    }
    if (ack === undefined) {
      for (const listener of this.#listeners.get(event) ?? []) listener(...args);
      return;
    }
    const [resolve, reject] = this.#calls.get(ack) ?? [];
    this.#calls.delete(ack);
    // The answer to a join is told at once: what was missed comes right behind it.
    if (!error) this.#channels.get(args[0]?.channel)?.joined(args[0]);
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
