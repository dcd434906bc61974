import type { KillPairs, NewNode, NewTask } from "../authz/ask.ts";
import type { Subject } from "../core/trust/subject.ts";
import type { EpochSeconds } from "../core/time.ts";
import { deathKeys, killKey } from "../core/kill/keys.ts";
import type { ActingAgent } from "./acting-agent.ts";
import type { Origin } from "./origin.ts";

/** Where a new token stands: in which task and node, under which path, bounded by what, and killed by what. */
export interface Position {
  readonly txn: string;
  readonly node: string;
  readonly path: readonly string[];
  readonly subject: Subject;
  readonly ceilings: readonly (readonly string[] | null)[];
  readonly deadline: EpochSeconds;
  readonly purpose: string | undefined;
  readonly kill: KillPairs;
  /** What must be open already. */
  readonly task?: { readonly txn: string; readonly nodes: readonly string[] };
  readonly newTask?: NewTask;
  readonly newNode?: NewNode;
}

/**
 * @param txn the name of the task, should this request open one
 * @param purpose as asked; carried by the task it opens
 */
export function positionOf(
  origin: Origin,
  acting: ActingAgent,
  at: { txn: string; now: EpochSeconds; purpose: string | undefined },
): Position {
  // Every issuer that vouched for the agent here kills what comes of it, whichever proof came first.
  const issuers = acting.workloads.map((workload) => killKey("issuer", workload.issuer.name));
  const fresh = [...deathKeys.ofAgent(acting.agent, undefined), ...issuers];
  switch (origin.kind) {
    case "open":
      return opened(origin, acting, fresh, at);
    case "continue": {
      const { task, node } = origin.place;
      return {
        txn: task.txn,
        node: node.id,
        path: node.path,
        subject: task.subject,
        ceilings: [task.ceiling, node.ceiling],
        deadline: task.deadline,
        purpose: task.purpose,
        kill: joined({ keys: node.killKeys, epochs: node.killEpochs }, fresh),
        task: { txn: task.txn, nodes: [node.id] },
      };
    }
    case "redeem":
      return redeemed(origin, acting, fresh, at.now);
  }
}

function opened(
  origin: Origin & { kind: "open" },
  acting: ActingAgent,
  fresh: readonly string[],
  at: { txn: string; now: EpochSeconds; purpose: string | undefined },
): Position {
  const { txn, now, purpose } = at;
  const agent = acting.agent.name;
  const { subject, deadline, ceiling = null } = origin;
  const kill = joined({ keys: [], epochs: [] }, [...fresh, ...deathKeys.ofSubject(subject), deathKeys.txn(txn)]);
  return {
    txn,
    node: txn,
    path: [agent],
    subject,
    ceilings: [ceiling],
    deadline,
    purpose,
    kill,
    newTask: { txn, opener: agent, subject, sub: subject.sub, purpose, ceiling, opened_at: now, deadline },
    newNode: newNode({ id: txn, txn, parent: null, agent, path: [agent], ceiling: null }, kill, now),
  };
}

function redeemed(
  origin: Origin & { kind: "redeem" },
  acting: ActingAgent,
  fresh: readonly string[],
  now: EpochSeconds,
): Position {
  const { from, handOver, path } = origin;
  const kill = joined({ keys: handOver.killKeys, epochs: handOver.killEpochs }, fresh);
  const agent = acting.agent.name;
  return {
    txn: from.task.txn,
    node: handOver.jti,
    path,
    subject: from.task.subject,
    ceilings: [from.task.ceiling, handOver.scopes],
    deadline: from.task.deadline,
    purpose: from.task.purpose,
    kill,
    task: { txn: from.task.txn, nodes: [from.node.id, handOver.jti] },
    newNode: newNode(
      { id: handOver.jti, txn: from.task.txn, parent: from.node.id, agent, path, ceiling: handOver.scopes },
      kill,
      now,
    ),
  };
}

function newNode(
  facts: Omit<NewNode, "made_at" | "kill_keys" | "kill_epochs">,
  kill: KillPairs,
  now: EpochSeconds,
): NewNode {
  // A spread comes last where it can: in Node, each member that is new after one costs more than all of it.
  return { made_at: now, kill_keys: kill.keys, kill_epochs: kill.epochs, ...facts };
}

/** Adds keys that are taken on now. One that is there stays with its earlier epoch, which more kills cover. */
export function joined(pairs: KillPairs, keys: readonly string[]): KillPairs {
  const known = new Set(pairs.keys);
  const added = keys.filter((key) => !known.has(key) && known.add(key));
  return { keys: [...pairs.keys, ...added], epochs: [...pairs.epochs, ...added.map(() => null)] };
}
