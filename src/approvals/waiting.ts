import type { Streams } from "../authz/streams.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { stillHolds, type BoundContent } from "./content.ts";

/** Bounds of calls that wait on one replica. */
const LIMITS = {
  /** Each holds a connection and its body; beyond, a call is answered at once, as one that does not wait. */
  calls: 1_000,
  /** Between two looks at all of them, in milliseconds, where nothing was announced. */
  lookMs: 1_000,
} as const;

/** Announced to all replicas: an approval that moved, or a wait that is to end. */
export const WAITING_CHANNEL = "ephor_approval";
const ENDED = "end ";

/** How a wait ended. */
export type WaitEnd =
  /** Somebody decided, or what it hangs on is another now: the call is to be judged anew. */
  | "moved"
  /** The approval's own time is over. */
  | "expired"
  /** The caller's time is over, or too many wait. */
  | "time"
  /** The caller, or whoever waits with it, does not want it any more. */
  | "gone"
  | "killed"
  /** This replica lost sight of the database. */
  | "fenced"
  | "closing";

/** A call that waits for somebody's decision. */
export interface WaitingCall {
  readonly approval: string;
  /** Until when the approval stands, epoch seconds. */
  readonly expiresAt: EpochSeconds;
  /** Until when its caller waits at most, epoch seconds. */
  readonly until: EpochSeconds;
  /** What kills the caller, and since when. */
  readonly keys: readonly string[];
  readonly epochs: readonly (number | null)[];
  /** Names by which it can be called off. */
  readonly names: readonly string[];
  /** Calls back when its caller is gone; at once where he is. */
  readonly whenGone: (call: () => void) => void;
}

/**
 * Calls of this replica that wait for an approval. They cost no query each: one a second, and one for each decision that was
 * announced, reads how all of them stand. Kills cut them as they cut streams.
 */
export interface Waiting {
  /** Resolves when the wait is over; never rejects. What it means is judged by whoever waits. */
  ended(call: WaitingCall): Promise<WaitEnd>;
  /** Looks at once, here and at every other replica. */
  announce(approval: string): Promise<void>;
  /** Ends the waits of this name, wherever they are. */
  callOff(name: string): Promise<void>;
  /** What a replica announced; also to be told, with no payload, when announcements may have been missed. */
  heard(payload: string): void;
  readonly size: number;
  /** Ends all of them, and every one that comes after. */
  close(): void;
}

interface WaitingDeps {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly trust: () => TrustIndex;
  readonly streams: Pick<Streams, "open">;
  readonly log: Log;
  readonly metrics: Pick<Metrics, "waitingCalls">;
}

interface Entry {
  readonly call: WaitingCall;
  readonly end: (how: WaitEnd) => void;
}

/** Opens the list. */
export function createWaiting(deps: WaitingDeps): Waiting {
  const { db, clock, log } = deps;
  const entries = new Set<Entry>();
  let isClosed = false;
  let timer: ReturnType<typeof setInterval> | undefined;
  let reading: Promise<void> | undefined;
  let isStale = false;

  /** One at a time; what was announced meanwhile is read after it. */
  function look(): void {
    if (reading !== undefined) {
      isStale = true;
      return;
    }
    if (entries.size === 0) return;
    isStale = false;
    reading = readAll(deps, [...entries])
      .catch((err: unknown) => log.warn("background_failed", { name: "waiting calls", err }))
      .finally(() => {
        reading = undefined;
        if (isStale) look();
      });
  }

  function begin(call: WaitingCall): Promise<WaitEnd> {
    const ended = kept(deps, entries, call);
    timer ??= setInterval(look, LIMITS.lookMs).unref();
    look();
    return ended.finally(() => {
      if (entries.size > 0) return;
      clearInterval(timer);
      timer = undefined;
    });
  }

  const tell = async (payload: string): Promise<void> => {
    await db.query("select pg_notify($1, $2)", [WAITING_CHANNEL, payload]);
  };
  return {
    async ended(call) {
      if (isClosed) return "closing";
      const now = clock.now();
      if (now >= call.expiresAt) return "expired";
      if (now >= call.until || entries.size >= LIMITS.calls) return "time";
      return await begin(call);
    },
    announce: tell,
    callOff: (name) => tell(`${ENDED}${name}`),
    heard(payload) {
      if (!payload.startsWith(ENDED)) return look();
      const name = payload.slice(ENDED.length);
      for (const { call, end } of entries) if (call.names.includes(name)) end("gone");
    },
    get size() {
      return entries.size;
    },
    close() {
      isClosed = true;
      for (const { end } of entries) end("closing");
    },
  };
}

/** Keeps a call until something ends its wait; that it is killed or its time over is seen as of a stream. */
function kept({ clock, streams, metrics }: WaitingDeps, entries: Set<Entry>, call: WaitingCall): Promise<WaitEnd> {
  const { expiresAt, until, keys, whenGone } = call;
  return new Promise((resolve) => {
    const stream = streams.open({
      keys,
      // Whatever kill is heard from now on; those before are seen by the first look.
      epoch: 0,
      exp: Math.min(expiresAt, until),
      onCut: (reason) => entry.end(reason === "expired" ? (clock.now() >= expiresAt ? "expired" : "time") : reason),
    });
    const entry: Entry = {
      call,
      end(how) {
        if (!entries.delete(entry)) return;
        metrics.waitingCalls.dec();
        stream.close();
        resolve(how);
      },
    };
    entries.add(entry);
    metrics.waitingCalls.inc();
    whenGone(() => entry.end("gone"));
  });
}

/** Ends those that stand otherwise than when they began to wait. */
async function readAll({ db, clock, trust }: WaitingDeps, entries: readonly Entry[]): Promise<void> {
  const asked = entries.map(({ call: { approval, keys, epochs } }) => ({ approval, keys, epochs }));
  const rows = await db.query<{ n: number; state: string; dead: boolean; content: BoundContent }>(
    `select w.n, ephor.approval_state(a, $1) as state, a.content, ephor.is_dead(
       array(select k from jsonb_array_elements_text(w.one -> 'keys') with ordinality as e(k, n) order by n),
       array(select k::bigint from jsonb_array_elements_text(w.one -> 'epochs') with ordinality as e(k, n) order by n),
       g.epoch, $1) as dead
     from jsonb_array_elements($2::jsonb) with ordinality as w(one, n)
     join ephor.approvals a on a.id = w.one ->> 'approval' cross join ephor.gate g where g.id = 1`,
    [clock.now(), JSON.stringify(asked)],
  );
  const index = trust();
  for (const { n, state, dead, content } of rows) {
    const { end } = entries[n - 1] as Entry;
    if (dead) end("killed");
    else if (state !== "pending" || !stillHolds(index, content)) end(state === "expired" ? "expired" : "moved");
  }
}
