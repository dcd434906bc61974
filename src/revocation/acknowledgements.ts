import { BEATS, LEASE_MS, type Heartbeat } from "../authz/heartbeat.ts";
import type { DedicatedConnection } from "../db/database.ts";
import type { Log } from "../system/log.ts";

/** Past the lease every replica that did not acknowledge releases nothing; the rest is for clocks that run unevenly, in milliseconds. */
const FENCED_MS = LEASE_MS + 100;
/** A replica whose last beat was seen so long ago releases nothing, in milliseconds. */
const GONE_MS = LEASE_MS + 500;
/** Pauses between two looks, in milliseconds: acknowledgements take some, fenced replicas two seconds. */
const LOOK_MS = [2, 3, 5, 8, 12, 20, 30, 50] as const;

/** What became of one replica. */
export interface ReplicaHeard {
  readonly replica: string;
  /** It dropped what was covered; or its lease ran out after the kill, or had before it. */
  readonly outcome: "acknowledged" | "fenced" | "gone";
  /** Milliseconds after the kill stood. */
  readonly afterMs: number;
}

/** Waits until no replica can release anything that a kill covers. */
export interface Acknowledgements {
  /** @param position of a kill that stands, and that this replica has dropped its own permits for */
  everywhere(position: number): Promise<readonly ReplicaHeard[]>;
}

interface Waiter {
  readonly position: number;
  readonly sinceMs: number;
  readonly heard: Map<string, ReplicaHeard>;
  readonly resolve: (heard: readonly ReplicaHeard[]) => void;
}

interface Row {
  id: string;
  heard: number;
  sign: string;
}

/**
 * One reader for all who wait, so that a crowd of kills costs no more than one. Time is this machine's own monotonic time: the
 * lease is about real silence.
 */
export function createAcknowledgements(deps: {
  connection: DedicatedConnection;
  replica: string;
  heartbeat: Pick<Heartbeat, "silentMs">;
  log: Log;
}): Acknowledgements {
  const { connection, replica, heartbeat, log } = deps;
  let waiters: Waiter[] = [];
  let looking = false;

  async function look(): Promise<void> {
    looking = true;
    for (let round = 0; waiters.length > 0; round++) {
      const asked = waiters;
      let rows: readonly Row[] | undefined;
      try {
        rows = await connection.call<Row>(
          "acknowledgements",
          `select r.id, r.heard, ${BEATS} as sign from ephor.replicas r where r.id <> $1`,
          [replica],
        );
      } catch (err) {
        // The kill stands all the same. Whoever cannot be asked is fenced by time.
        log.warn("acknowledgements_not_read", { err });
      }
      const done = new Set(asked.filter((waiter) => isOver(waiter, rows)));
      waiters = waiters.filter((waiter) => !done.has(waiter));
      for (const waiter of done) waiter.resolve([...waiter.heard.values()]);
      if (waiters.length > 0) await pause(LOOK_MS[Math.min(round, LOOK_MS.length - 1)] ?? 50);
    }
    looking = false;
  }

  function isOver({ position, sinceMs, heard }: Waiter, rows: readonly Row[] | undefined): boolean {
    const afterMs = Math.round(performance.now() - sinceMs);
    const isLate = afterMs >= FENCED_MS;
    if (rows === undefined) return isLate;
    let isWaiting = false;
    for (const { id, heard: seen, sign } of rows) {
      if (heard.has(id)) continue;
      const outcome = seen >= position ? "acknowledged" : silenced(heartbeat.silentMs(id, sign), afterMs);
      if (outcome === undefined) isWaiting = true;
      else heard.set(id, { replica: id, outcome, afterMs });
    }
    return !isWaiting;
  }

  return {
    everywhere(position) {
      const own: ReplicaHeard = { replica, outcome: "acknowledged", afterMs: 0 };
      return new Promise((resolve) => {
        waiters = [...waiters, { position, sinceMs: performance.now(), heard: new Map([[replica, own]]), resolve }];
        if (!looking) void look();
      });
    },
  };
}

/** @param silentMs its silence until now, of which `afterMs` came after the kill */
function silenced(silentMs: number, afterMs: number): "fenced" | "gone" | undefined {
  if (silentMs >= GONE_MS) return silentMs - afterMs >= LEASE_MS ? "gone" : "fenced";
  return afterMs >= FENCED_MS ? "fenced" : undefined;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
