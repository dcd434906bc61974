import type { KillOrder, KillReceipt } from "../api/kill.ts";
import { ProblemError } from "../api/problem.ts";
import type { KillKind } from "../core/kill/keys.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { Db } from "../db/database.ts";
import type { Call, Rooms } from "../http/rooms.ts";
import type { Keys } from "../keys/keys.ts";
import { namedBy, reachOf, unknownOf, type Reach } from "../revocation/reach.ts";
import type { Revocation } from "../revocation/revocation.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import { actorOf, instantOf } from "./wire.ts";

/** A receipt is waited for this long, in milliseconds; what was not found by then is in the stored one. */
const RECEIPT_MS = 1_000;

/** Kill, receipts and restore, as the routes call them. */
export function killRooms(deps: {
  /** A connection that no other request waits for. */
  kept: Pick<Db, "query">;
  db: Db;
  clock: DatabaseClock;
  revocation: Revocation;
  keys: Keys;
  issuer: string;
  log: Log;
}): Rooms["kills"] {
  const { db, kept, clock, revocation, keys, issuer, log } = deps;

  async function kill(order: KillOrder, call: Call): Promise<KillReceipt> {
    const targets = targetsOf(order);
    const unknown = await unknownOf(kept, order);
    if (unknown.length > 0)
      throw new ProblemError("not_found", { detail: `not known: ${unknown.slice(0, 10).join(", ")}` });
    const by = actorOf(call.caller);
    if (order.dryRun) return receiptOf({ order, by, atMs: clock.nowMs() }, await reachOf(db, targets, clock.now()));
    // INVARIANT: the kill comes first. What it reaches is looked up for the receipt, however long that takes.
    const known = { hits: namedBy(targets), truncated: true };
    const { requestId } = call.request;
    const receipt = receiptOf({ order, by, atMs: clock.nowMs() }, known);
    const done = await revocation.kill({ targets, reason: order.reason, by, requestId, receipt });
    const at = { order, by, atMs: done.atMs };
    const full = reachOf(db, targets, clock.now()).then(async (reach) => {
      const found = receiptOf(at, reach);
      await revocation
        .keepReceipt(done.id, found)
        .catch((err: unknown) => log.warn("receipt_not_kept", { requestId, err }));
      return found;
    });
    return { id: done.id, ...((await inTime(full)) ?? receiptOf(at, known)), event_id: done.eventId };
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

/** What came in time, or undefined; also when it failed. */
function inTime<T>(work: Promise<T>): Promise<T | undefined> {
  return new Promise((resolve) => {
    const late = setTimeout(() => resolve(undefined), RECEIPT_MS);
    work
      .catch(() => undefined)
      .then((found) => {
        clearTimeout(late);
        resolve(found);
      });
  });
}

function receiptOf(at: { order: KillOrder; by: string; atMs: number }, { hits, truncated }: Reach): KillReceipt {
  const { order, by, atMs } = at;
  const outcome = order.dryRun ? "would_die" : "dead";
  return {
    at: instantOf(atMs),
    by,
    reason: order.reason,
    dry_run: order.dryRun,
    lines: hits.map(({ kind, id, agent }) => ({
      kind,
      id,
      ...(agent === undefined ? {} : { agent }),
      outcome,
      at: instantOf(atMs),
    })),
    ...(truncated ? { truncated } : {}),
    replicas: [],
  };
}

function targetsOf(order: KillOrder): { kind: KillKind; value: string }[] {
  return [
    ...order.agents.map((value) => ({ kind: "agent" as const, value })),
    ...order.txns.map((value) => ({ kind: "txn" as const, value })),
    ...order.jtis.map((value) => ({ kind: "jti" as const, value })),
  ];
}
