// Peer: the script that k6 runs.  Each virtual user holds a share of the connections; the window is given as wall times.
import { Counter } from "k6/metrics";
import { WebSocket } from "k6/experimental/websockets";

const url = __ENV.BENCH_URL, perUser = Number(__ENV.BENCH_PER_USER);
const counted = new Counter("bench_messages"), lost = new Counter("bench_gaps"), opened = new Counter("bench_open");
export const options = { vus: Number(__ENV.BENCH_USERS), iterations: Number(__ENV.BENCH_USERS), summaryTrendStats: ["p(99)"] };

export default function () {
  let messages = 0, gaps = 0, open = 0;
  const from = Number(__ENV.BENCH_FROM_MS), to = Number(__ENV.BENCH_TO_MS), sockets = [];
  for (let i = 0; i < perUser; i++) {
    const socket = new WebSocket(url), last = new Map();
    sockets.push(socket);
    socket.addEventListener("open", () => {
      open++;
      socket.send('{"action":"subscribe","id":1,"channels":[],"patterns":[],"symbols":[]}');
    });
    socket.addEventListener("message", (event) => {
      const data = JSON.parse(event.data).data, identity = data && data.tickstorm;
      if (!identity) return;
      const expected = last.get(identity.s), now = Date.now();
      last.set(identity.s, identity.q + 1);
      if (now < from || now >= to) return;
      if (expected !== undefined && identity.q > expected) gaps += identity.q - expected;
      messages++;
    });
  }
  setTimeout(() => {
    counted.add(messages);
    lost.add(gaps);
    opened.add(open);
    for (const socket of sockets) socket.close();
  }, to - Date.now() + 200);
}
