// The load generator: autocannon in a process of its own. Each request has the next body of a file, so that no two
// exchanges present the same token; with `repeat` it starts over at the end. With `rate`, requests leave evenly spaced
// whatever was answered, and each is timed from the moment at which it was due.
import { readFileSync } from "node:fs";
import autocannon from "autocannon";
import { Pool } from "undici";

process.once("message", (order) => {
  (order.rate === undefined ? load : paced)(order).then(
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
  return {
    good: seen.good,
    // What ran out of distinct bodies measured something else.
    failures: seen.bad + result.errors + result.timeouts + (repeat ? 0 : Math.max(0, sent - requests.length)),
    sent,
    seconds: result.duration,
    ...percentiles(durations),
    last: seen.last,
    cpuMicroseconds: cpu.user + cpu.system,
  };
}

async function paced({ url, headers, bodies: path, connections, seconds, rate }) {
  const target = new URL(url);
  const bodies = bodiesOf(readFileSync(path, "utf8"));
  const pool = new Pool(target.origin, { connections, pipelining: 1 });
  const seen = { good: 0, bad: 0, last: undefined };
  const durations = [];
  const started = process.cpuUsage();
  const ask = async (n, dueMs) => {
    try {
      const { statusCode, body } = await pool.request({
        method: "POST",
        path: target.pathname,
        headers: { "Content-Type": "application/x-www-form-urlencoded", ...headers },
        body: bodies[n % bodies.length],
      });
      note(seen, statusCode, await body.text());
      durations.push(performance.now() - dueMs);
    } catch (error) {
      note(seen, 0, String(error));
    }
  };
  const beganMs = performance.now();
  const asked = [];
  await new Promise((done) => {
    const tick = setInterval(() => {
      const nowMs = performance.now();
      for (let dueMs; (dueMs = beganMs + (asked.length * 1_000) / rate) <= nowMs;) {
        if (asked.length >= rate * seconds) {
          clearInterval(tick);
          return done();
        }
        asked.push(ask(asked.length, dueMs));
      }
    }, 1);
  });
  await Promise.all(asked);
  const elapsed = (performance.now() - beganMs) / 1_000;
  const cpu = process.cpuUsage(started);
  await pool.close();
  return {
    good: seen.good,
    failures: seen.bad,
    sent: asked.length,
    seconds: elapsed,
    ...percentiles(durations),
    last: seen.last,
    cpuMicroseconds: cpu.user + cpu.system,
  };
}

function percentiles(durations) {
  durations.sort((a, b) => a - b);
  const at = (share) => durations[Math.min(durations.length - 1, Math.floor(durations.length * share))] ?? 0;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
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
