import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { describe, it } from "node:test";
import { createLifecycle, stopOnSignals } from "../../src/system/lifecycle.ts";
import type { Alarm, Lifecycle } from "../../src/system/lifecycle.ts";
import { createLog } from "../../src/system/log.ts";

/** A lifecycle whose graces end when the test says so. */
function handMade(): { lifecycle: Lifecycle; ring: () => void; events: () => string[] } {
  const lines: string[] = [];
  const log = createLog({ level: "info", destination: { write: (line) => void lines.push(line) } });
  let ring = (): void => {};
  const alarm = (): Alarm => ({ rung: new Promise((resolve) => (ring = resolve)), cancel: () => {} });
  return {
    lifecycle: createLifecycle({ log, graceMs: 1, alarm }),
    ring: () => ring(),
    events: () => lines.map((line) => (JSON.parse(line) as { event: string }).event),
  };
}

describe("A-OPS-08 the end of a server", () => {
  it("goes by phases, and within one backwards", async () => {
    const { lifecycle } = handMade();
    const order: string[] = [];
    const add = (phase: Parameters<Lifecycle["onStop"]>[0], name: string): void =>
      lifecycle.onStop(phase, name, () => void order.push(name));
    add("resources", "database");
    add("resources", "keys");
    add("accepted", "requests");
    add("background", "heartbeat");
    add("accepting", "listener");
    await lifecycle.stop("test");
    assert.deepEqual(order, ["listener", "requests", "heartbeat", "keys", "database"]);
  });

  it("happens once, however often it is asked for", async () => {
    const { lifecycle } = handMade();
    let count = 0;
    lifecycle.onStop("accepting", "x", () => void count++);
    assert.equal(lifecycle.isStopping(), false);
    await Promise.all([lifecycle.stop("a"), lifecycle.stop("b")]);
    assert.deepEqual([count, lifecycle.isStopping()], [1, true]);
  });

  it("goes on when an end fails, and says so", async () => {
    const { lifecycle, events } = handMade();
    let isClosed = false;
    lifecycle.onStop("accepting", "bad", () => {
      throw new Error("x");
    });
    lifecycle.onStop("resources", "database", () => {
      isClosed = true;
    });
    await lifecycle.stop("test");
    assert.ok(isClosed && events().includes("shutdown.failed"));
  });

  it("does not wait longer than the grace", async () => {
    const { lifecycle, ring, events } = handMade();
    lifecycle.onStop("accepted", "stuck", () => new Promise(() => setImmediate(ring)));
    await lifecycle.stop("test");
    assert.ok(events().includes("shutdown.late"));
  });

  it("comes with SIGTERM, and a second signal does not wait", async () => {
    const { lifecycle } = handMade();
    const source = new EventEmitter();
    const codes: number[] = [];
    let release = (): void => {};
    lifecycle.onStop("accepted", "slow", () => new Promise<void>((resolve) => (release = resolve)));
    const exited = new Promise<void>((resolve) =>
      stopOnSignals(lifecycle, source, (code) => (codes.push(code), resolve())),
    );
    source.emit("SIGTERM", "SIGTERM");
    assert.deepEqual(codes, []);
    source.emit("SIGINT", "SIGINT");
    await exited;
    assert.deepEqual(codes, [1]);
    release();
    await lifecycle.stop("again");
    assert.deepEqual(codes, [1, 0]);
  });
});
