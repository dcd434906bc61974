import type { Db } from "../db/database.ts";
import { createLane } from "../db/lane.ts";
import type { DatabaseClock } from "../system/clock.ts";

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
}

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
const READ = `
  select h.jti, h.txn, h.node, n.path, h.kill_keys, h.kill_epochs,
    h.exp > $2 and t.ended_at is null and t.deadline > $2 and n.ended_at is null
      and not ephor.is_dead(h.kill_keys, h.kill_epochs, 0, $2) as live
  from ephor.hops h join ephor.tasks t on t.txn = h.txn join ephor.nodes n on n.id = h.node
  where h.jti = any($1)`;

/** @param db its own connection carries the reads, so that a busy pool does not delay them */
export function createLiveTokens(deps: { db: Db; clock: DatabaseClock }): LiveTokens {
  const connection = deps.db.dedicated("live tokens");

  async function send(jtis: readonly string[]): Promise<readonly (TokenState | undefined)[]> {
    const rows = await connection.call<StateRow>("live", READ, [[...new Set(jtis)], deps.clock.now()]);
    const byJti = new Map(rows.map((row) => [row.jti, stateOf(row)]));
    return jtis.map((jti) => byJti.get(jti));
  }

  const lane = createLane(send);
  return { state: (jti) => lane.submit(jti) };
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
