// The load generator: autocannon in a process of its own. Each request has the next body of a file, so that no two
// exchanges present the same token; with `repeat` it starts over at the end.
import { readFileSync } from "node:fs";
import autocannon from "autocannon";

process.once("message", (order) => {
  load(order).then(
    (answer) => process.send(answer),
    (error) => {
      console.error(error);
      process.exitCode = 1;
      process.disconnect();
    },
  );
});

async function load({ url, headers, bodies: path, repeat, connections, seconds }) {
  const target = new URL(url);
  const requests = requestsOf(target, headers, bodiesOf(readFileSync(path, "utf8")));
  const seen = { good: 0, bad: 0, last: undefined };
  const durations = [];
  let sent = 0;
  const started = process.cpuUsage();
  const result = await autocannon({
    url: target.origin,
    connections,
    duration: seconds,
    requests: [{ method: "POST", path: target.pathname, onResponse: (status, body) => note(seen, status, body) }],
    setupClient(client) {
      // What autocannon would build anew for each request costs it as much as sending it.
      client.getRequestBuffer = () => requests[sent++ % requests.length];
      client.on("response", (_status, _bytes, ms) => durations.push(ms));
    },
  });
  const cpu = process.cpuUsage(started);
  durations.sort((a, b) => a - b);
  const at = (share) => durations[Math.min(durations.length - 1, Math.floor(durations.length * share))] ?? 0;
  return {
    good: seen.good,
    // What ran out of distinct bodies measured something else.
    failures: seen.bad + result.errors + result.timeouts + (repeat ? 0 : Math.max(0, sent - requests.length)),
    sent,
    seconds: result.duration,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    last: seen.last,
    cpuMicroseconds: cpu.user + cpu.system,
  };
}

/** One a line; an empty file is one empty body. */
function bodiesOf(text) {
  const lines = text.split("\n").filter(Boolean);
  return lines.length === 0 ? [""] : lines;
}

function requestsOf(target, headers, bodies) {
  const lines = Object.entries({ "Content-Type": "application/x-www-form-urlencoded", ...headers });
  const head = [
    `POST ${target.pathname} HTTP/1.1`,
    `Host: ${target.host}`,
    "Connection: keep-alive",
    ...lines.map(([name, value]) => `${name}: ${value}`),
  ].join("\r\n");
  return bodies.map((body) => Buffer.from(`${head}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`));
}

function note(seen, status, body) {
  if (status === 200) {
    seen.good += 1;
    seen.last = body;
    return;
  }
  seen.bad += 1;
  if (seen.bad <= 3) console.error(`${status} ${body.slice(0, 300)}`);
}
