import type { KillOrder, KillReceipt } from "../api/kill.ts";
import { ProblemError } from "../api/problem.ts";
import type { KillKind } from "../core/kill/keys.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { Db } from "../db/database.ts";
import type { Call, Rooms } from "../http/rooms.ts";
import type { Keys } from "../keys/keys.ts";
import { reachOf, unknownOf } from "../revocation/reach.ts";
import type { Revocation } from "../revocation/revocation.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { actorOf, instantOf } from "./wire.ts";

/** Kill, receipts and restore, as the routes call them. */
export function killRooms(deps: {
  db: Db;
  clock: DatabaseClock;
  revocation: Revocation;
  keys: Keys;
  issuer: string;
}): Rooms["kills"] {
  const { db, clock, revocation, keys, issuer } = deps;

  async function kill(order: KillOrder, call: Call): Promise<KillReceipt> {
    const targets = targetsOf(order);
    const unknown = await unknownOf(db, order);
    if (unknown.length > 0)
      throw new ProblemError("not_found", { detail: `not known: ${unknown.slice(0, 10).join(", ")}` });
    const by = actorOf(call.caller);
    const { hits, truncated } = await reachOf(db, targets, clock.now());
    const receipt = (atMs: number, outcome: "dead" | "would_die"): KillReceipt => ({
      at: instantOf(atMs),
      by,
      reason: order.reason,
      dry_run: order.dryRun,
      lines: hits.map((hit) => ({
        kind: hit.kind,
        id: hit.id,
        ...(hit.agent === undefined ? {} : { agent: hit.agent }),
        outcome,
        at: instantOf(atMs),
      })),
      ...(truncated ? { truncated } : {}),
      replicas: [],
    });
    if (order.dryRun) return receipt(clock.nowMs(), "would_die");
    const done = await revocation.kill({
      targets,
      reason: order.reason,
      by,
      requestId: call.request.requestId,
      receipt: receipt(clock.nowMs(), "dead"),
    });
    return { id: done.id, ...receipt(done.atMs, "dead"), event_id: done.eventId };
  }

  return {
    kill,
    async read(id) {
      const stored = await revocation.read(id);
      if (!stored) return undefined;
      const receipt = stored.receipt as Partial<KillReceipt>;
      return {
        id: stored.id,
        at: instantOf(stored.atMs),
        by: stored.by,
        reason: stored.reason,
        dry_run: false,
        lines: receipt.lines ?? [],
        replicas: receipt.replicas ?? [],
        ...(receipt.truncated ? { truncated: true } : {}),
        ...(stored.restoredAtMs === undefined ? {} : { restored_at: instantOf(stored.restoredAtMs) }),
      };
    },
    async restore(order, call) {
      const { lifted, atMs, eventId } = await revocation.restore({
        targets: order.agents.map((value) => ({ kind: "agent" as const, value })),
        reason: order.reason,
        by: actorOf(call.caller),
        requestId: call.request.requestId,
      });
      return { restored: lifted.map((key) => key.slice("agent:".length)), at: instantOf(atMs), event_id: eventId };
    },
    sign: (receipt) => keys.attestor.sign(JWT_TYP.receipt, { iss: issuer, iat: clock.now(), receipt }),
  };
}

function targetsOf(order: KillOrder): { kind: KillKind; value: string }[] {
  return [
    ...order.agents.map((value) => ({ kind: "agent" as const, value })),
    ...order.txns.map((value) => ({ kind: "txn" as const, value })),
    ...order.jtis.map((value) => ({ kind: "jti" as const, value })),
  ];
}
