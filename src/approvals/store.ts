import type { Db } from "../db/database.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { ApprovalState, Asking, StoredApproval } from "./approval.ts";
import type { BoundContent } from "./content.ts";
import type { DecidedVia, StoredNeed } from "./deciders.ts";

interface Row {
  id: string;
  digest: string;
  txn: string;
  agent: string;
  sub: string;
  resource: string;
  action: string;
  path: string[];
  purpose: string | null;
  content: BoundContent;
  shown: string | null;
  sealed: unknown;
  needs: StoredNeed[];
  kill_keys: string[];
  kill_epoch: number;
  created_at: number;
  expires_at: number;
  state: ApprovalState;
  decisions: {
    decider: string;
    via: DecidedVia | null;
    decision: "approve" | "deny";
    reason: string;
    at: number;
    kill_keys: string[];
    kill_epoch: number;
  }[];
}

/** `$1` is the time, epoch seconds. */
const SELECT = `select a.id, a.digest, a.txn, a.agent, a.sub, a.resource, a.action, a.path, a.purpose, a.content, a.shown, a.sealed, a.needs,
    a.kill_keys, a.kill_epoch, a.created_at, a.expires_at, ephor.approval_state(a, $1) as state,
    coalesce((select jsonb_agg(to_jsonb(d) order by d.at, d.decider) from ephor.approval_decisions d where d.approval = a.id), '[]') as decisions
  from ephor.approvals a`;

/** One of them, without a look at the trust objects. */
export async function readApproval(db: Db, id: string, now: EpochSeconds): Promise<StoredApproval | undefined> {
  const [row] = await db.query<Row>(`${SELECT} where a.id = $2`, [now, id]);
  return row && stored(row);
}

/** Newest first. @param page.asking only those that ask this agent, or this human about his own */
export async function listApprovals(
  db: Db,
  page: {
    status: "pending" | "all";
    before: string | undefined;
    limit: number;
    asking: Asking | undefined;
    txn: string | undefined;
    now: EpochSeconds;
  },
): Promise<readonly StoredApproval[]> {
  const { asking } = page;
  const by = asking && ("agent" in asking ? { agent: asking.agent } : "self");
  const asks = by === undefined ? null : JSON.stringify([{ by: [by] }]);
  const sub = asking && "human" in asking ? asking.human : null;
  const rows = await db.query<Row>(
    `${SELECT} where ($2::text is null or a.id < $2) and ($3::jsonb is null or a.needs @> $3) and ($6::text is null or a.sub = $6)
       and ($7::text is null or a.txn = $7)
       and ($4 or (a.status = 'pending' and a.expires_at > $1 and ephor.approval_state(a, $1) = 'pending'))
     order by a.id desc limit $5`,
    [page.now, page.before ?? null, asks, page.status === "all", page.limit, sub ?? null, page.txn ?? null],
  );
  return rows.map(stored);
}

function stored(row: Row): StoredApproval {
  const { kill_keys: killKeys, kill_epoch: killEpoch, created_at: createdAt, expires_at: expiresAt, ...rest } = row;
  return {
    ...rest,
    killKeys,
    killEpoch,
    createdAt,
    expiresAt,
    purpose: row.purpose ?? undefined,
    decisions: row.decisions.map(({ kill_keys, kill_epoch, via, ...decision }) => ({
      ...decision,
      via: via ?? undefined,
      killKeys: kill_keys,
      killEpoch: kill_epoch,
    })),
  };
}
