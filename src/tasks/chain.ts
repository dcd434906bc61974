import type { Chain, ChainNode, ChainRefusal } from "../api/chains.ts";
import type { Subject } from "../core/trust/subject.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { LEASE_COLUMNS, leaseOf, type LeaseRow } from "./lease-rows.ts";
import { issuedColumns, readIssued, tokenStatus, type IssuedRow } from "./issued.ts";
import { deadSql, placeStatus, type PlaceStatus } from "./state.ts";

/** Bounds of one chain, each with its reason. */
const LIMITS = {
  /** A page that a person can look at; the rest is in the ledger, by `txn`. */
  events: 2_000,
  nodes: 1_000,
  leases: 1_000,
};

interface TaskRow {
  txn: string;
  opener: string;
  subject: Subject;
  sub: string;
  purpose: string | null;
  opened_at: number;
  deadline: number;
  ended_at: number | null;
  trace_id: string | null;
}

interface NodeRow {
  id: string;
  parent: string | null;
  agent: string;
  ceiling: string[] | null;
  made_at: number;
  ended_at: number | null;
  dead: boolean;
}

const NODES = `
  select n.id, n.parent, n.agent, n.ceiling, n.made_at, n.ended_at, ${deadSql("n", "$2")} as dead
  from ephor.nodes n where n.txn = $1 order by n.made_at, n.id limit ${LIMITS.nodes + 1}`;

const EVENTS = `
  select ${issuedColumns(deadSql("h", "$2"))}
  from ephor.events e left join ephor.hops h on h.jti = e.jti
  where e.txn = $1 and (e.type = 'token.issue' or e.decision = 'refused')
  order by e.id desc limit ${LIMITS.events + 1}`;

const LEASES = `
  select ${LEASE_COLUMNS} from ephor.leases l where l.txn = $1 order by l.id desc limit ${LIMITS.leases + 1}`;

const KILLS = `
  select distinct d.kill_id
  from ephor.nodes n cross join lateral unnest(n.kill_keys, n.kill_epochs) as k(key, epoch)
  join ephor.dead_keys d on d.key = k.key
  where n.txn = $1 and ((d.active and (d.ends_at is null or d.ends_at > $2)) or d.position > k.epoch)
  order by d.kill_id`;

/**
 * The tree of a task: its agents, what each was given, what each was refused. Tokens are read from the ledger, so that the
 * tree stays the same after they have expired.
 *
 * @returns undefined when there is no such task, or it was swept (30 days after its deadline; its events stay)
 */
export async function taskChain(deps: { db: Db; clock: DatabaseClock }, txn: string): Promise<Chain | undefined> {
  const { db } = deps;
  const now = deps.clock.now();
  const [task] = await db.query<TaskRow>(
    "select txn, opener, subject, sub, purpose, opened_at, deadline, ended_at, trace_id from ephor.tasks where txn = $1",
    [txn],
  );
  if (!task) return undefined;
  const [nodeRows, eventRows, leaseRows, killRows] = await Promise.all([
    db.query<NodeRow>(NODES, [txn, now]),
    db.query<IssuedRow>(EVENTS, [txn, now]),
    db.query<LeaseRow>(LEASES, [txn]),
    db.query<{ kill_id: string }>(KILLS, [txn, now]),
  ]);
  const nodes = nest(nodeRows.slice(0, LIMITS.nodes), task, now);
  const root = nodes.get(txn);
  if (!root) return undefined;
  const strangers: ChainRefusal[] = [];
  for (const row of eventRows.slice(0, LIMITS.events).reverse()) place(row, { nodes, strangers, now });
  for (const row of leaseRows.slice(0, LIMITS.leases).reverse()) nodes.get(row.node)?.leases.push(leaseOf(row));
  const isCut = nodeRows.length > LIMITS.nodes || eventRows.length > LIMITS.events || leaseRows.length > LIMITS.leases;
  const email = emailOf(task.subject);
  return {
    txn: task.txn,
    sub: task.sub,
    subject: task.subject.type,
    opener: task.opener,
    status: root.status,
    opened_at: task.opened_at,
    deadline: task.deadline,
    kill_ids: killRows.map((row) => row.kill_id),
    root,
    refusals: strangers,
    ...(task.purpose !== null && { purpose: task.purpose }),
    ...(task.ended_at !== null && { ended_at: task.ended_at }),
    ...(task.trace_id !== null && { trace_id: task.trace_id }),
    ...(email !== undefined && { email }),
    ...(isCut && { truncated: true }),
  };
}

/** Nodes by id, each in its parent's children. */
function nest(rows: readonly NodeRow[], task: TaskRow, now: EpochSeconds): Map<string, ChainNode> {
  const nodes = new Map(rows.map((row) => [row.id, nodeOf(row, task, now)]));
  for (const row of rows) {
    const node = nodes.get(row.id);
    if (node && row.parent !== null) nodes.get(row.parent)?.children.push(node);
  }
  return nodes;
}

function nodeOf(row: NodeRow, task: TaskRow, now: EpochSeconds): ChainNode {
  const endedAt = row.ended_at ?? task.ended_at;
  return {
    node: row.id,
    agent: row.agent,
    status: placeStatus({ dead: row.dead, endedAt, deadline: task.deadline }, now),
    scopes: row.ceiling,
    made_at: row.made_at,
    ...(endedAt !== null && { ended_at: endedAt }),
    tokens: [],
    leases: [],
    refusals: [],
    children: [],
  };
}

/** Puts an event where it belongs: a token at its node, a refusal at its node or at its agent's latest one. */
function place(
  row: IssuedRow,
  at: { nodes: ReadonlyMap<string, ChainNode>; strangers: ChainRefusal[]; now: EpochSeconds },
): void {
  const issued = readIssued(row);
  const named = issued.node === undefined ? undefined : at.nodes.get(issued.node);
  if (row.decision !== "refused") {
    if (named && row.jti !== null) named.tokens.push(tokenOf(row, issued, named.status, at.now));
    return;
  }
  const own = [...at.nodes.values()].findLast((node) => node.agent === row.agent);
  const refusals = (named ?? own)?.refusals ?? at.strangers;
  refusals.push(refusalOf(row, issued));
}

function tokenOf(
  row: IssuedRow,
  issued: ReturnType<typeof readIssued>,
  status: PlaceStatus,
  now: EpochSeconds,
): ChainNode["tokens"][number] {
  const state = tokenStatus({ dead: row.dead, exp: issued.exp }, status, now);
  return {
    jti: row.jti ?? "",
    kind: issued.kind,
    aud: issued.aud,
    scopes: issued.scopes,
    iat: issued.iat,
    exp: issued.exp,
    // The wire knows no ended token: with its task or node it is as good as expired.
    status: state === "ended" ? "expired" : state,
  };
}

function refusalOf(row: IssuedRow, issued: ReturnType<typeof readIssued>): ChainRefusal {
  return {
    at: issued.iat,
    type: row.type,
    reason: row.reason ?? "",
    event_id: row.id,
    ...(row.agent !== null && { agent: row.agent }),
    ...(row.resource !== null && { resource: row.resource }),
    ...(issued.scopes.length > 0 && { scopes: issued.scopes }),
  };
}

/** An address that its issuer denies to have verified is nobody's. */
function emailOf(subject: Subject): string | undefined {
  if (subject.type !== "human") return undefined;
  const { email, email_verified: isVerified } = subject.claims;
  return typeof email === "string" && isVerified !== false && isVerified !== "false" ? email : undefined;
}
