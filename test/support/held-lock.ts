import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";

/** The gate's advisory lock (migrations/0001_gate.sql). */
export const GATE_LOCK = 4_202_171;
/** Longest wait for somebody to come and wait, in real ms. Once they wait, the server's own lock timeout of 4 s runs. */
const WAIT_MS = 10_000;
/** Between two looks, in real ms. */
const LOOK_MS = 5;

/** A lock that a test holds, so that others meet it at a known step. */
export interface HeldLock {
  /** Resolves when so many sessions of this database wait for a lock, and one of them for this. */
  waiting(count: number): Promise<void>;
  release(): Promise<void>;
  /** Likewise; what the statement did is there from then on. */
  commit(): Promise<void>;
}

/**
 * Holds what a statement locks, in a transaction of its own, until it is released.
 *
 * @param url the owner's URL of the test's database
 * @param sql takes the lock
 */
export async function holdLock(url: string, sql: string, params: readonly unknown[] = []): Promise<HeldLock> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  await client.query("begin");
  await client.query(sql, params as unknown[]);
  let isOver = false;
  return {
    async waiting(count) {
      const deadline = performance.now() + WAIT_MS;
      for (;;) {
        // Sessions are looked at once in a transaction, unless told otherwise: one that came later would not be seen.
        await client.query("select pg_stat_clear_snapshot()");
        // Whoever was just let go by another lock still says that it waits: who has this one is asked beside it.
        const { rows } = await client.query<{ count: number; here: boolean }>(
          `select count(*)::int as count, coalesce(bool_or(pg_backend_pid() = any (pg_blocking_pids(pid))), false) as here
           from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        const { count: found = 0, here = false } = rows[0] ?? {};
        if (found >= count && here) return;
        assert.ok(
          performance.now() < deadline,
          `${found} of ${count} sessions wait${here ? "" : ", none of them here"}`,
        );
        await pause(LOOK_MS);
      }
    },
    async release() {
      if (isOver) return;
      isOver = true;
      await client.query("rollback").catch(() => {});
      await client.end();
    },
    async commit() {
      isOver = true;
      await client.query("commit");
      await client.end();
    },
  };
}

/** Holds the gate alone: releases wait, and so do kills. */
export function holdGate(url: string): Promise<HeldLock> {
  return holdLock(url, `select pg_advisory_xact_lock(${GATE_LOCK})`);
}
