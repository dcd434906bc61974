import type { KillOrder, KillReceipt } from "../api/kill.ts";
import type { ReplicaHeard } from "./acknowledgements.ts";
import type { LeaseOutcome } from "./lease-outcomes.ts";
import type { Reach } from "./reach.ts";
import type { KillTarget } from "./revocation.ts";

/** One line of a receipt. */
export type ReceiptLine = KillReceipt["lines"][number];

/** What of a receipt is kept with its kill; the rest is in the kill itself. */
export type KeptReceipt = Pick<KillReceipt, "lines" | "truncated" | "left_off" | "replicas">;

/**
 * The receipt of a kill as it is kept.
 *
 * @param of.targets what it names, traces expanded; each is a line, hit or not
 * @param of.reach undefined where nobody knows yet what else it hits
 * @param of.at when it stood, RFC 3339
 */
export function receiptOf(of: {
  order: KillOrder;
  targets: readonly KillTarget[];
  reach: Reach | undefined;
  at: string;
  replicas?: readonly ReplicaHeard[];
}): KeptReceipt {
  const { order, targets, reach, at, replicas = [] } = of;
  const state = { outcome: order.dryRun ? ("would_die" as const) : ("dead" as const), at };
  // Its upstream decides when it is dead; until somebody looked, it is being ended.
  const leaseState = { ...state, outcome: order.dryRun ? state.outcome : ("retrying" as const) };
  const lines = new Map<string, ReceiptLine>();
  const add = (line: ReceiptLine): void => {
    // What was named is told once, with what is known of it.
    const key = `${line.kind} ${line.id}`;
    lines.set(key, { ...lines.get(key), ...line });
  };
  for (const one of order.targets) if (one.kind === "trace") add({ kind: "trace", id: one.value, ...state });
  for (const target of targets) {
    if (target.kind === "all") add({ kind: "all", id: "all", ...state });
    else if (target.kind === "lease") add({ kind: "lease", id: target.value, ...leaseState });
    else
      add({ kind: target.kind, id: target.value, ...(target.kind === "agent" && { agent: target.value }), ...state });
  }
  for (const hit of reach?.hits ?? []) {
    const { kind, id } = hit;
    if (hit.kind === "lease") add({ kind, id, ...leaseState });
    else if (hit.kind === "jti") {
      const expires = new Date(hit.expiresAt * 1_000).toISOString();
      add({ kind, id, agent: hit.agent, ...state, expires_at: expires });
    } else add({ kind, id, agent: hit.agent, ...state });
  }
  const leftOff = reach?.leftOff ?? 0;
  return {
    lines: [...lines.values()],
    ...(reach === undefined || leftOff > 0 ? { truncated: true } : {}),
    ...(leftOff > 0 ? { left_off: leftOff } : {}),
    replicas: replicas.map(({ replica, outcome, afterMs }) => ({ replica, outcome, ms: afterMs })),
  };
}

/** The lines, with leases as they stand now. Those that a preview lists stay as they are. */
export function withLeases(lines: readonly ReceiptLine[], leases: readonly LeaseOutcome[]): ReceiptLine[] {
  const byId = new Map(leases.map((lease) => [lease.id, lease]));
  return lines.map((line) => {
    const lease = line.kind === "lease" ? byId.get(line.id) : undefined;
    if (lease === undefined) return line;
    const { agent, resource, outcome, at, problem } = lease;
    const about = { kind: line.kind, id: line.id, agent, resource };
    if (line.outcome === "would_die") return { ...about, outcome: line.outcome, at: line.at };
    // A lease that was over before is dead since then.
    const since = outcome === "retrying" ? line.at : new Date(at * 1_000).toISOString();
    return { ...about, outcome, at: since, ...(outcome === "retrying" && problem !== undefined && { problem }) };
  });
}
