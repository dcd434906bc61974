import type { Outstanding } from "../authz/outstanding.ts";
import { onceKey } from "../core/token/once.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Db } from "../db/database.ts";
import { createLane } from "../db/lane.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { createRecent } from "../system/recent.ts";

/** What the database knows of a token of ours. */
export interface TokenState {
  /** Neither killed nor of an ended task or node, and known. */
  readonly live: boolean;
  readonly txn: string;
  readonly node: string;
  readonly path: readonly string[];
  readonly killKeys: readonly string[];
  readonly killEpochs: readonly number[];
}

/** Reads tokens' states, batched. Kills are read in the database each time: nothing positive is remembered. */
export interface LiveTokens {
  /** @returns undefined for a token that was never recorded, or was swept after its end */
  state(jti: string): Promise<TokenState | undefined>;
  /**
   * The same, from memory where it was seen live before: what never changes about a token, for who asks the gate next. The gate
   * sees what ended it since; whoever is refused for another reason must be looked at by {@link isLive}.
   */
  remembered(jti: string): Promise<TokenState | undefined>;
  /** Whether it is live, for who needs no more: introspection. */
  isLive(jti: string): Promise<Liveness>;
  /** Whether a once-only token was used. Asked for such tokens alone: others have nothing to be looked up. */
  isSpent(jti: string): Promise<boolean>;
}

/** What was read, and until when it may be told to anybody. */
export interface Liveness {
  readonly live: boolean;
  /** The trust version when it was read: whoever may ask by an older one perhaps may not any more. */
  readonly trustVersion: number;
  /** Monotonic milliseconds. Whoever was held up for longer than that tells nothing: there may have been a kill. */
  readonly lapsesAtMs: number;
}

/** As long as a permit lives, from when the database was asked. */
const LAPSES_AFTER_MS = 1_000;
/** Tokens whose facts are kept: each lives under a minute, and few are used more than some times. */
const REMEMBERED = 20_000;
/** Kills may come faster than reads; then whoever asks is told to ask again. */
const MAX_READS = 5;

interface StateRow {
  jti: string;
  live: boolean;
  txn: string;
  node: string;
  path: string[];
  kill_keys: string[];
  kill_epochs: (number | string)[];
}

/** One statement for everyone who waits. `$2` is the time by the database's clock, in epoch seconds. */
const READ_STATES = "select jti, live, txn, node, path, kill_keys, kill_epochs from ephor.token_states($1, $2)";
const READ_LIVE = `select g.trust_version as version, s.jti
  from ephor.gate g left join ephor.token_states($1, $2) s on s.live where g.id = 1`;

/**
 * @param deps.db connections of their own carry the reads, so that a busy pool does not delay them
 * @param deps.outstanding knows whether a kill was heard of while something was read
 */
export function createLiveTokens(deps: {
  db: Db;
  clock: DatabaseClock;
  outstanding: Pick<Outstanding, "strikes">;
}): LiveTokens {
  const { db, clock, outstanding } = deps;
  const states = createLane(async (jtis: readonly string[]) => {
    const rows = await stateConnection.call<StateRow>("states", READ_STATES, [[...new Set(jtis)], clock.now()]);
    const byJti = new Map(rows.map((row) => [row.jti, stateOf(row)]));
    return jtis.map((jti) => byJti.get(jti));
  });
  const lives = createLane(async (jtis: readonly string[]) => {
    for (let read = 0; read < MAX_READS; read++) {
      const { strikes } = outstanding;
      const lapsesAtMs = clock.monotonicMs() + LAPSES_AFTER_MS;
      const rows = await liveConnection.call<{ version: number; jti: string | null }>("live", READ_LIVE, [
        [...new Set(jtis)],
        clock.now(),
      ]);
      const live = new Set(rows.map((row) => row.jti));
      // INVARIANT: what was read before a kill that this replica has acknowledged meanwhile is told to nobody.
      if (strikes !== outstanding.strikes) continue;
      const trustVersion = rows[0]?.version ?? Number.MAX_SAFE_INTEGER;
      return jtis.map((jti) => ({ live: live.has(jti), trustVersion, lapsesAtMs }));
    }
    throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
  });
  const seen = createRecent<TokenState>(REMEMBERED);
  const stateConnection = db.dedicated("token states");
  const liveConnection = db.dedicated("live tokens");
  return {
    state: (jti) => states.submit(jti),
    async remembered(jti) {
      const known = seen.get(jti) ?? (await states.submit(jti));
      if (known?.live === true) seen.set(jti, known);
      return known;
    },
    isLive: (jti) => lives.submit(jti),
    isSpent: async (jti) =>
      (await db.query("select 1 as one from ephor.replay where key = $1", [onceKey(jti)])).length > 0,
  };
}

function stateOf(row: StateRow): TokenState {
  return {
    live: row.live,
    txn: row.txn,
    node: row.node,
    path: row.path,
    killKeys: row.kill_keys,
    killEpochs: row.kill_epochs.map(Number),
  };
}
