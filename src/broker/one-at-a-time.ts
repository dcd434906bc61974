import { randomInt } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Db } from "../db/database.ts";
import { keptFor } from "../db/kept.ts";
import { sha256Hex } from "../system/hash.ts";

/** First half of the advisory locks' keys; 4202172 is `ephor.put_secret`'s. */
const LOCK_CLASS = 4_202_173;

/** Limits, each with its reason. */
const LIMITS = {
  /** Whoever waits longer is told to come back: shorter than clients wait for an answer. */
  waitMs: 15_000,
  /** For one secret, in this process: more would not be served within the wait. */
  waiting: 64,
  /** How often a lock that another replica holds is tried again; a random part keeps replicas from trying in step. */
  tryMs: 25,
  /** How long a replica leaves a secret that it has just used to the others, so that one with many waiting starves nobody. */
  leaveMs: 60,
};

/** Names that this process alone holds, over all replicas, until they are released. */
export interface Held {
  /**
   * To be asked right before what must happen only once. The locks end with their connection, and others may have got them.
   *
   * @throws {TemporarilyUnavailableError} `overloaded` when they were lost, `database_unreachable` when nobody knows
   */
  check(): Promise<void>;
  /** Never throws: a lock that cannot be released is gone with its connection. */
  release(): Promise<void>;
}

/** Lets one at a time use each of some names, over all replicas. */
export interface OneAtATime {
  /**
   * Waits until it has all of them.
   *
   * @throws {TemporarilyUnavailableError} `overloaded` when others had one of them for too long, or too many wait;
   * `database_unreachable`
   */
  acquire(names: readonly string[]): Promise<Held>;
}

/** Holds nothing. */
const NOTHING: Held = { check: async () => {}, release: async () => {} };

/**
 * Session advisory locks on one connection: PostgreSQL frees them when the process dies, and no waiting takes a connection from
 * anybody. Who waits in this process queues in memory; only the first of each queue tries the lock, and never blocks in it.
 */
export function createOneAtATime(db: Db, limits: Partial<typeof LIMITS> = {}): OneAtATime {
  const { waitMs, waiting, tryMs, leaveMs } = { ...LIMITS, ...limits };
  const connection = keptFor(db, "one-at-a-time");
  const turns = createTurns(waiting, leaveMs);

  /** @returns which session has the lock */
  async function lock(key: number, deadline: number): Promise<number> {
    for (;;) {
      const session = await tryLock(connection, key);
      if (session !== undefined) return session;
      if (performance.now() > deadline) throw new TemporarilyUnavailableError({ reason: "overloaded" });
      await pause(tryMs + randomInt(tryMs + 1));
    }
  }

  async function one(key: number, deadline: number): Promise<{ session: number; release(): Promise<void> }> {
    const pass = await turns.wait(key, deadline);
    try {
      const session = await lock(key, deadline);
      return {
        session,
        async release() {
          await unlock(connection, key).catch(() => {});
          pass();
        },
      };
    } catch (error) {
      pass();
      throw error;
    }
  }

  return {
    async acquire(names) {
      if (names.length === 0) return NOTHING;
      const deadline = performance.now() + waitMs;
      // One order for everybody, so that no two wait for each other. Two names with one key are one lock.
      const keys = [...new Set(names.map(keyOf))].sort((a, b) => a - b);
      const held: { session: number; release(): Promise<void> }[] = [];
      const release = async (): Promise<void> => {
        for (const each of held.splice(0)) await each.release();
      };
      try {
        for (const key of keys) held.push(await one(key, deadline));
      } catch (error) {
        await release();
        throw error;
      }
      const sessions = new Set(held.map(({ session }) => session));
      return {
        release,
        async check() {
          sessions.add(await sessionOf(connection));
          if (sessions.size !== 1) throw new TemporarilyUnavailableError({ reason: "overloaded" });
        },
      };
    },
  };
}

/** Queues of this process, one for each key. */
interface Turns {
  /** @returns passes the turn on; to be called once */
  wait(key: number, deadline: number): Promise<() => void>;
}

function createTurns(limit: number, leaveMs: number): Turns {
  /** Of each key in use, those who wait behind whoever has it. */
  const queues = new Map<number, (() => void)[]>();

  function pass(key: number): void {
    const next = queues.get(key)?.shift();
    if (next === undefined) queues.delete(key);
    else setTimeout(next, leaveMs);
  }

  return {
    wait(key, deadline) {
      const queue = queues.get(key);
      if (queue === undefined) {
        queues.set(key, []);
        return Promise.resolve(() => pass(key));
      }
      if (queue.length >= limit) return Promise.reject(new TemporarilyUnavailableError({ reason: "overloaded" }));
      return new Promise((resolve, reject) => {
        const mine = (): void => {
          clearTimeout(late);
          resolve(() => pass(key));
        };
        const late = setTimeout(() => {
          const place = queue.indexOf(mine);
          // Its turn has come already, and is only being left to the others for a moment.
          if (place < 0) return;
          queue.splice(place, 1);
          reject(new TemporarilyUnavailableError({ reason: "overloaded" }));
        }, deadline - performance.now());
        queue.push(mine);
      });
    },
  };
}

type Connection = ReturnType<typeof keptFor>;

/**
 * The server is told to look every 10 s whether we are still there: a machine that vanishes tells nobody, and by default its
 * session, and the lock, would stay for two hours.
 *
 * @returns the session that has the lock; undefined when another has it
 */
async function tryLock(connection: Connection, key: number): Promise<number | undefined> {
  const [row] = await connection.query<{ held: boolean; session: number }>(
    `select pg_try_advisory_lock($1, $2) as held, pg_backend_pid() as session, set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)`,
    [LOCK_CLASS, key],
  );
  return row?.held === true ? row.session : undefined;
}

async function unlock(connection: Connection, key: number): Promise<void> {
  await connection.query("select pg_advisory_unlock($1, $2)", [LOCK_CLASS, key]);
}

async function sessionOf(connection: Connection): Promise<number> {
  const [row] = await connection.query<{ session: number }>("select pg_backend_pid() as session");
  return row?.session ?? 0;
}

/** 32 bits of the name's hash, signed as PostgreSQL has them. Two names that share one wait for each other, which is harmless. */
function keyOf(name: string): number {
  return Number.parseInt(sha256Hex(`ephor one at a time\0${name}`).slice(0, 8), 16) | 0;
}
