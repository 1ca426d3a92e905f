// Peer: Node's `ws`, one process.  Arguments as the other peers'; `ws` is found by NODE_PATH.
"use strict";
const { WebSocket } = require("ws");
const [host, port, connections, warmUp, seconds] = process.argv.slice(2, 7);
const BUCKETS = 1 << 13;
let messages = 0, gaps = 0, repeats = 0, other = 0, open = 0, histogram = new Uint32Array(BUCKETS);
const rssBefore = process.memoryUsage().rss;

function bucket(us) {
  if (us < 256) return us < 0 ? 0 : Math.floor(us);
  const shift = Math.floor(Math.log2(us)) - 7;
  return Math.min((shift << 7) + Math.floor(us / 2 ** shift), BUCKETS - 1);
}

function lowerUs(at) { return at < 256 ? at : ((at & 127) + 128) * 2 ** ((at >> 7) - 1); }

function quantileMs(q) {
  let seen = 0;
  for (let at = 0; at < BUCKETS; at++) if ((seen += histogram[at]) > q * messages) return lowerUs(at) / 1000;
  return 0;
}

function take(last, text) {
  const data = JSON.parse(text).data, identity = data && data.tickstorm;
  if (!identity) { other++; return; }
  const expected = last.get(identity.s);
  if (expected !== undefined && identity.q !== expected) {
    if (identity.q > expected) gaps += identity.q - expected; else repeats++;
  }
  if (expected === undefined || identity.q >= expected) last.set(identity.s, identity.q + 1);
  messages++;
  histogram[bucket((Number(process.hrtime.bigint()) - identity.d) / 1000)]++;
}

const sockets = [];

function measure() {
  const cpu = process.cpuUsage(), begin = process.hrtime.bigint();
  messages = gaps = repeats = 0;
  histogram = new Uint32Array(BUCKETS);
  setTimeout(() => {
    const used = process.cpuUsage(cpu), took = Number(process.hrtime.bigint() - begin) / 1e9;
    console.log(JSON.stringify({ messages, gaps, repeats, other, open, seconds: took,
      cpu_s: (used.user + used.system) / 1e6, p50_ms: quantileMs(0.5), p99_ms: quantileMs(0.99),
      rss_per_connection: Math.floor((process.memoryUsage().rss - rssBefore) / connections) }));
    process.exit(0);
  }, seconds * 1000);
}

function connectNext() {
  if (sockets.length == connections) {
    for (const socket of sockets) socket.send('{"action":"subscribe","id":1,"channels":[],"patterns":[],"symbols":[]}');
    setTimeout(measure, warmUp * 1000);
    return;
  }
  const socket = new WebSocket(`ws://${host}:${port}/ws`, { perMessageDeflate: false }), last = new Map();
  sockets.push(socket);
  socket.on("message", (text) => take(last, text));
  socket.on("open", () => { open++; connectNext(); });
  socket.on("close", () => { open--; });
  socket.on("error", (error) => { console.error(error.message); process.exit(1); });
}

connectNext();
