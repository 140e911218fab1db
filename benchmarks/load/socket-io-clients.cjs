// Clients that drop: Socket.IO's own for JavaScript, as it is.
// Usage: node socket-io-clients.cjs PORT...

const readline = require("node:readline");
const { io } = require("../peers/node_modules/socket.io-client");

const clients = process.argv.slice(2).map((port, number) => {
  const received = { room: [], direct: [], returns: -1, recovered: 0, is_connected: false };
  const socket = io(`http://127.0.0.1:${port}`, { transports: ["websocket"], forceNew: true });
  const ready = () => {
    received.returns++;
    received.is_connected = true;
  };
  socket.on("connect", () => {
    if (socket.recovered) {
      received.recovered++;
      ready();
    } else {
      socket.emit("who", number, ready);
    }
  });
  socket.on("disconnect", () => (received.is_connected = false));
  socket.on("room", (number) => received.room.push(number));
  socket.on("direct", (number) => received.direct.push(number));
  return { socket, received };
});

const tell = (what) => console.log(JSON.stringify(what));
const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const [word, count] = line.split(" ");
  if (word === "begin") clients[0].socket.emit("begin", clients.length, Number(count));
  if (word === "connected") tell(clients.filter(({ received }) => received.is_connected).length);
  if (word === "report") tell(clients.map(({ received }) => received));
});
lines.on("close", () => process.exit());
