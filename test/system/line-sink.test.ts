import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createLineSink } from "../../src/system/line-sink.ts";
import { createMetrics } from "../../src/system/metrics.ts";

const folder = mkdtempSync(join(tmpdir(), "ephor-sink-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Until something is so, within seconds. */
async function until(isSo: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!isSo()) {
    assert.ok(performance.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A pipe without a process: both ends, neither of which blocks. */
function pipe(name: string): { into: number; from: number } {
  const path = join(folder, name);
  execFileSync("mkfifo", [path]);
  const from = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const into = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  return { into, from };
}

/** What lies in a pipe now. */
function drained(from: number): string {
  const bytes = Buffer.alloc(1 << 20);
  let size = 0;
  try {
    for (let read = -1; read !== 0; size += read) read = readSync(from, bytes, size, bytes.length - size, null);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "EAGAIN");
  }
  return bytes.subarray(0, size).toString();
}

const line = (i: number): string => `${String(i).padStart(6, "0")} ${"x".repeat(1_000)}\n`;

test("lines arrive whole and in order, also what waits at the end of the process", async () => {
  const path = join(folder, "file");
  const fd = openSync(path, "w");
  const sink = createLineSink(fd);
  for (let i = 0; i < 150; i++) sink.write(line(i));
  await until(() => readFileSync(path, "utf8").length === 150 * line(0).length, "all are written");
  sink.write("begun\n");
  sink.write("the end\n");
  sink.flushSync();
  await until(() => readFileSync(path, "utf8").includes("begun\n"), "what was begun");
  const expected = Array.from({ length: 150 }, (_, i) => line(i)).join("");
  const written = readFileSync(path, "utf8");
  assert.ok(written.startsWith(expected) && written.includes("the end\n"));
  assert.equal(sink.dropped(), 0);
  closeSync(fd);
});

test("A-OPS-05 a full disk costs the lines, and each is counted", async () => {
  const sink = createLineSink(openSync("/dev/full", "w"));
  for (let i = 0; i < 100; i++) sink.write(line(i));
  await until(() => sink.dropped() === 100, "all are dropped");
  sink.write(line(1));
  sink.flushSync();
  await until(() => sink.dropped() === 101, "and the next one");
});

test("A-OPS-05 a closed pipe costs the lines, and each is counted", async () => {
  const { into, from } = pipe("closed");
  closeSync(from);
  const sink = createLineSink(into);
  for (let i = 0; i < 100; i++) sink.write(line(i));
  await until(() => sink.dropped() === 100, "all are dropped");
});

test("A-OPS-05 a pipe that nobody reads costs what does not fit into a bounded backlog; when it is read again, it says how many", async () => {
  const { into, from } = pipe("slow");
  const sink = createLineSink(into);
  const sent = 5_000;
  for (let i = 0; i < sent; i++) sink.write(line(i));
  // What waits is bounded, so the rest was dropped at once.
  assert.ok(sink.dropped() > sent - 400, `${sink.dropped()} of ${sent}`);
  const missing = sink.dropped();
  sink.flushSync();
  assert.ok(sink.dropped() >= missing, "the end of the process does not wait for a reader");

  const again = createLineSink(into);
  drained(from);
  for (let i = 0; i < sent; i++) again.write(line(i));
  let text = "";
  await until(() => {
    text += drained(from);
    return text.includes("log_lines_dropped");
  }, "it tells");
  const told = JSON.parse(/^\{.*log_lines_dropped.*$/m.exec(text)?.[0] ?? "{}") as { count: number; level: string };
  assert.deepEqual([told.level, told.count], ["warn", again.dropped()]);
  const numbers = [...text.matchAll(/^(\d{6}) x{1000}$/gm)].map(([, number]) => Number(number));
  assert.deepEqual(
    numbers,
    numbers.toSorted((a, b) => a - b),
  );
  closeSync(from);
});

test("the metric counts dropped lines, whenever it is read", async () => {
  let dropped = 0;
  const metrics = createMetrics({ version: "0", droppedLogLines: () => dropped });
  const shown = async (): Promise<string | undefined> =>
    /^ephor_log_lines_dropped_total (\d+)$/m.exec(await metrics.render())?.[1];
  assert.equal(await shown(), "0");
  dropped = 3;
  assert.equal(await shown(), "3");
  assert.equal(await shown(), "3");
  dropped = 5;
  assert.equal(await shown(), "5");
});
