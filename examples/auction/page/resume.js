// What lets a session survive its connections, without I/O and without a clock: both sides count the
// messages in each direction, and a client that comes back tells what it has and sends again what the
// server has not taken. Its owner opens the connections:
//
//   resume.come(now)               // before a connection is opened: what belongs into its query
//   resume.begin(now, at)          // when its open packet is there: the first message. From then on this is
//                                  // the connection, `resume.connection` its number
//   resume.receive(number, message, now)  // each message: null, or what to do: { message }, { opened },
//                                         // { move } or { close }
//   resume.touch(number, now)      // each ping
//   resume.lose(number)            // the end of a connection
//   resume.send(envelope)          // something to send, now or later
//   resume.write(now)              // the envelopes to write now

// Every move it can make, by what happens.
const MOVES = {
  apart: { begin: "opening", return: "returning", lose: "apart" },
  opening: { begin: "opening", answer: "open", lose: "apart", end: "ended" },
  returning: { begin: "opening", return: "returning", answer: "open", lose: "apart", end: "ended" },
  open: { begin: "opening", return: "returning", message: "open", lose: "apart", end: "ended" },
  ended: { lose: "ended" },
};

// By what the server could recover: whether the counts go on, and whether all that it has not taken is sent
// again. What has a key, and what never went out, is sent wherever the session goes on.
const COURSES = {
  true: { countsOn: true, sendsAgain: true },
  partial: { countsOn: false, sendsAgain: true },
  channels: { countsOn: false, sendsAgain: false },
  false: { countsOn: false, sendsAgain: false },
};

const UNCOUNTED = ["taken", "move", "close"];

export class Resume {
  state = "apart";
  connection = 0;
  token = null;
  #window = 0; // ms
  #run = 0;
  #attempt = 0;
  received = 0; // messages of this run
  #taken = 0; // by the server, as far as it has said
  #queue = []; // { envelope, first }: what is above that, and when it first went out
  #written = 0; // how many of these went out by this connection
  #heardAt = 0;
  #hasExpired = false;

  // Connections

  come(now) {
    this.#expire(now);
    return this.token === null ? { resume: 1 } : { resume: 1, again: 1 };
  }

  begin(now, at = {}) {
    this.#expire(now);
    this.#advance(this.token === null ? "begin" : "return");
    this.connection += 1;
    this.#written = 0;
    if (this.token === null) return { session: {} };
    this.#attempt += 1;
    return { session: { token: this.token, taken: this.received, run: this.#run, attempt: this.#attempt, at } };
  }

  lose(connection) {
    if (connection === this.connection) this.#advance("lose");
  }

  // What comes

  touch(connection, now) {
    // Who is let in but not answered has not heard of its session.
    if (connection === this.connection && this.state === "open") this.#heardAt = now;
  }

  receive(connection, message, now) {
    if (connection !== this.connection || this.state === "apart") return null;
    if (isNotice(message) && message.close) {
      if (!message.close.again) this.#advance("end");
      return message;
    }
    if (message.event === "session") {
      const opened = this.#open(message.args[0], now);
      this.#heardAt = now;
      return { opened };
    }
    this.#advance("message");
    this.#heardAt = now;
    if (!isNotice(message)) {
      this.received += 1;
      return { message };
    }
    if (message.move) return message;
    if (this.token !== null) this.#confirm(message.taken);
    return null;
  }

  #open({ token, window, recovered, lost, taken, run }, now) {
    this.#advance("answer");
    const course = COURSES[recovered];
    // Of a session that is lost it may be known what it had taken.
    if (this.token !== null && taken !== null) this.#confirm(recovered ? taken : Math.max(taken, this.#taken));
    const dropped = course.sendsAgain ? [] : this.#drop(now);
    if (!course.countsOn) {
      this.#run = run;
      this.received = this.#taken = 0;
    }
    if (token !== this.token) {
      this.token = token;
      this.#attempt = 0;
    }
    this.#window = window * 1000;
    const why = this.#hasExpired ? { session: "expired" } : lost;
    this.#hasExpired = false;
    return { recovered, lost: why, dropped };
  }

  // What goes

  send(envelope) {
    this.#queue.push({ envelope, first: null });
  }

  write(now) {
    if (this.state !== "open") return [];
    const waiting = this.#queue.slice(this.#written);
    for (const each of waiting) each.first ??= now;
    this.#written = this.#queue.length;
    if (this.token === null) this.#confirm(this.#taken + waiting.length); // nothing will ever be sent again
    return waiting.map(({ envelope }) => envelope);
  }

  // What the server is not known to have taken, the oldest first.
  get unconfirmed() {
    return this.#queue.map(({ envelope }) => envelope);
  }

  #confirm(taken) {
    const count = taken - this.#taken;
    const sent = this.#queue.filter(({ first }) => first !== null).length;
    if (count < 0 || count > sent) throw new Error(`the server took ${taken} messages: that cannot be`);
    this.#queue.splice(0, count);
    this.#written = Math.max(0, this.#written - count);
    this.#taken = taken;
  }

  #drop(now) {
    const isKept = ({ envelope, first }) => first === null || ("key" in envelope && now - first < this.#window);
    const dropped = this.#queue.filter((each) => !isKept(each));
    this.#queue = this.#queue.filter(isKept);
    return dropped.map(({ envelope }) => envelope);
  }

  #expire(now) {
    if (this.token === null || now - this.#heardAt < this.#window) return;
    this.token = null;
    this.#hasExpired = true;
  }

  #advance(step) {
    const next = MOVES[this.state][step];
    if (next === undefined) throw new Error(`${step} while ${this.state}`);
    this.state = next;
  }
}

// Whether a message is about the connection alone, and not counted.
function isNotice(message) {
  const [key, ...others] = Object.keys(message);
  return others.length === 0 && UNCOUNTED.includes(key);
}
