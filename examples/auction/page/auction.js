// The auction's page: it renders what the server says, and leaves all validation to the server.

import { Stream } from "/stream.js";

const $ = (id) => document.getElementById(id);
const STATES = { connecting: "connecting", live: "live", waiting: "reconnecting", ended: "ended" };
const STAGES = { "going once": "Going once …", "going twice": "Going twice …", sold: "Sold" };
const NEXT = { open: "going once", "going once": "going twice", "going twice": "sold", sold: "the next lot" };
const SHOWN = 20; // bids
const POINTER_PAUSE = 40; // ms between updates of our own pointer
const POINTER_LIFE = 4000; // ms until a still pointer disappears

let me = "";
let stream = null;
let lot = null;
let bids = null; // the channel of the current lot, whose messages are its bids
let placed = []; // [name, cents], the oldest first
let clock = 0;

// The door

$("name").value = sessionStorage.getItem("name") ?? "";
$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  me = $("name").value.trim();
  if (!me) return;
  sessionStorage.setItem("name", me);
  $("door").hidden = true;
  $("room").hidden = false;
  stream = new Stream({ account: me });
  stream.onstate = showState;
  stream.on("lot", showLot);
  const sale = stream.join("sale");
  sale.onmembers = showPeople;
  sale.on("lot", showLot);
  sale.on("point", showPointer);
});

function showState(state, why) {
  $("state").dataset.state = state;
  $("state").title = why ?? "";
  $("state").firstElementChild.textContent = STATES[state];
  $("bid").classList.toggle("off", state !== "live");
  if (state === "ended") refuse({ type: "ended", message: `${why}. Reload the page to come back.` });
}

// The lot

const euros = (cents) =>
  "€" + (cents / 100).toLocaleString("en", { minimumFractionDigits: cents % 100 ? 2 : 0, maximumFractionDigits: 2 });

function showLot(next) {
  const isOther = lot?.number !== next.number;
  lot = next;
  if (isOther) {
    $("image").src = lot.picture;
    followBids();
    refuse(null);
  }
  $("image").alt = `${lot.title}. ${lot.about}`;
  $("number").textContent = `Lot ${lot.number}`;
  $("title").textContent = lot.title;
  $("about").textContent = lot.about;
  $("room").dataset.stage = lot.stage;
  $("place").disabled = false; // there is a lot to bid on
  showBids();
  showSteps();
  countDown(lot.seconds);
}

// The bids on a lot are the messages of its channel. Whoever comes late gets the last ones,
// whoever comes back the ones that were missed, or word that some are lost and what is left.
function followBids() {
  bids?.leave();
  bids = stream.join(`lot:${lot.number}`, SHOWN);
  placed = [];
  bids.onlost = () => {
    placed = [];
    showBids();
  };
  bids.on("bid", (name, cents) => {
    placed = [...placed.slice(1 - SHOWN), [name, cents]];
    showBids();
    replay($("amount"), "fresh");
    replay($("bids").firstElementChild, "fresh");
  });
}

function showBids() {
  const [leader, cents] = placed.at(-1) ?? [];
  const isSold = lot.stage === "sold";
  $("stage").textContent = STAGES[lot.stage] ? `${STAGES[lot.stage]}${isSold ? ` to ${leader}` : ""}` : "";
  $("price-label").textContent = leader ? (isSold ? "Sold for" : "Current bid") : "Opens at";
  $("amount").textContent = euros(cents ?? lot.lowest);
  $("leader").replaceChildren(...(leader ? [badge(leader), leader === me ? "It is yours so far" : leader] : ["No bids yet"]));
  if (leader === me && isSold) $("leader").lastChild.data = "It is yours";
  $("bids").replaceChildren(...placed.map(showBid).reverse());
}

// The server says how much longer the room may stay silent until the auctioneer's next call.
function countDown(seconds) {
  clearInterval(clock);
  const end = performance.now() + seconds * 1000;
  const show = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    $("clock").textContent = left > 0 ? `${NEXT[lot.stage]} in ${left} s` : "";
    if (left <= 0) clearInterval(clock);
  };
  clock = setInterval(show, 250);
  show();
}

function showBid([name, cents]) {
  const row = element("li", { className: name === me ? "mine" : "" });
  row.append(badge(name), element("span", { textContent: name === me ? `${name} (you)` : name }));
  row.append(element("b", { textContent: euros(cents) }));
  return row;
}

function showSteps() {
  const steps = [0, 50_00, 200_00].map((more) => lot.lowest + more);
  document.querySelector(".steps").replaceChildren(
    ...steps.map((cents) => {
      const button = element("button", { type: "button", textContent: euros(cents) });
      button.addEventListener("click", () => place(cents));
      return button;
    }),
  );
  $("euros").placeholder = String(lot.lowest / 100);
}

// Bidding

$("bid").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = $("euros").value.trim() || $("euros").placeholder;
  // Anything that is not an amount is sent as typed: rejecting it is up to the server.
  place(readEuros(typed) ?? typed);
});

// 1200.5, 1,200.50, 1.200,50 and 1 200,50 are the same: a separator before the last one or two digits is decimal.
function readEuros(typed) {
  const [, whole, cents = ""] = /^(.*?)(?:[.,](\d{1,2}))?$/.exec(typed.replace(/[€\s]/g, ""));
  const isNumber = /^\d+$/.test(whole) || /^\d{1,3}(?:([.,])\d{3})(?:\1\d{3})*$/.test(whole);
  return isNumber ? Number(whole.replace(/[.,]/g, "")) * 100 + Number(cents.padEnd(2, "0")) : null;
}

async function place(cents) {
  try {
    await stream.call("bid", { lot: lot.number, cents });
    $("euros").value = "";
    refuse(null);
  } catch (error) {
    refuse(error);
  }
}

function refuse(error) {
  const [kind, message, detail] = $("refusal").children;
  const isType = error?.type === "validation";
  $("refusal").hidden = !error;
  kind.textContent = error?.type ?? "";
  message.textContent = isType ? "a bid is an amount from €1 to €1,000,000" : (error?.message ?? "");
  detail.textContent = isType ? `${error.message} at ${error.path}` : "";
  detail.hidden = !isType;
  if (error) replay($("refusal"), "fresh");
}

// The people

function showPeople(people) {
  const windows = new Map();
  for (const { account } of people) windows.set(account, (windows.get(account) ?? 0) + 1);
  $("people").replaceChildren(
    ...[...windows].sort().map(([name, count]) => {
      const item = element("li", { title: count > 1 ? `${name}, in ${count} windows` : name });
      item.append(badge(name), element("span", { textContent: name }));
      if (count > 1) item.append(element("small", { textContent: `×${count}` }));
      return item;
    }),
  );
  const here = new Set(people.map(({ session }) => session));
  for (const [id, pointer] of pointers) if (!here.has(id)) dropPointer(id, pointer);
}

function badge(name) {
  const found = element("i", { className: "badge", textContent: [...name][0].toUpperCase() });
  found.style.setProperty("--hue", hue(name));
  return found;
}

// A colour for each person, the same in every window.
function hue(name) {
  let hash = 2166136261;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  return (hash >>> 0) % 360;
}

// Pointers

const pointers = new Map();
let lastPoint = 0;

$("picture").addEventListener("pointermove", (event) => {
  if (event.timeStamp - lastPoint < POINTER_PAUSE) return;
  lastPoint = event.timeStamp;
  const { left, top, width, height } = $("picture").getBoundingClientRect();
  const inside = (part) => Math.min(1, Math.max(0, part));
  stream.emit("point", inside((event.clientX - left) / width), inside((event.clientY - top) / height));
});

function showPointer(id, name, x, y) {
  let pointer = pointers.get(id);
  if (!pointer) {
    pointer = element("div", { className: "pointer" });
    pointer.append(element("span", { textContent: name }));
    pointer.style.setProperty("--hue", hue(name));
    pointers.set(id, pointer);
    $("pointers").append(pointer);
  }
  pointer.style.left = `${x * 100}%`;
  pointer.style.top = `${y * 100}%`;
  clearTimeout(pointer.timer);
  pointer.timer = setTimeout(() => dropPointer(id, pointer), POINTER_LIFE);
}

function dropPointer(id, pointer) {
  clearTimeout(pointer.timer);
  pointer.remove();
  pointers.delete(id);
}

// Elements

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function replay(target, animation) {
  target.classList.remove(animation);
  void target.offsetWidth; // reading this forces a reflow, without which the animation would not restart
  target.classList.add(animation);
}
