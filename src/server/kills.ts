import type { KillOrder, KillReceipt, Named, Restored } from "../api/kill.ts";
import type { CredentialProvider } from "../broker/provider.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { Db } from "../db/database.ts";
import type { Call, Rooms } from "../http/rooms.ts";
import { leaseOutcomes, type Ending } from "../revocation/lease-outcomes.ts";
import { reachOf, type Reach } from "../revocation/reach.ts";
import { receiptOf, withLeases, type KeptReceipt, type ReceiptLine } from "../revocation/receipt.ts";
import { keyOf, type KillTarget, type StoredKill } from "../revocation/revocation.ts";
import { killTargets } from "../revocation/targets.ts";
import type { StsDeps } from "../sts/deps.ts";
import { askerOf, unlessKilled } from "./asker.ts";
import { actorOf, instantOf } from "./wire.ts";

/** A receipt is waited for this long, in milliseconds; what was not found by then is in the stored one. */
const RECEIPT_MS = 1_000;

interface KillRoomDeps {
  readonly sts: StsDeps;
  /** A connection that no other request waits for. */
  readonly kept: Pick<Db, "query">;
  /** Which providers end what they made. */
  readonly kinds: ReadonlyMap<string, CredentialProvider>;
}

/** Kill, receipts and restore, as the routes call them. */
export function killRooms(deps: KillRoomDeps): Rooms["kills"] {
  const { sts, kept } = deps;
  const { db, clock, revocation, keys, issuer, log } = sts;
  const { asTheyStand, receipted } = receipts(deps);

  async function kill(order: KillOrder, call: Call): Promise<KillReceipt> {
    const targets = await killTargets(kept, order.targets);
    const by = actorOf(call.caller);
    const nowMs = clock.nowMs();
    const endsAt = order.forSeconds === undefined ? undefined : Math.floor(nowMs / 1_000) + order.forSeconds;
    const head = {
      by,
      reason: order.reason,
      dry_run: order.dryRun,
      ...(endsAt === undefined ? {} : { ends_at: instantOf(endsAt * 1_000) }),
    };
    const look = (): Promise<Reach> => reachOf(db, targets.map(keyOf), clock.now());
    if (order.dryRun) {
      const at = instantOf(nowMs);
      const receipt = receiptOf({ order, targets, reach: await look(), at });
      return { at, ...head, ...receipt, lines: await asTheyStand(receipt.lines) };
    }
    // INVARIANT: the kill comes first. What it reaches is looked up while replicas are waited for.
    let reach: Promise<Reach | undefined> = Promise.resolve(undefined);
    const { requestId } = call.request;
    const receipt = receiptOf({ order, targets, reach: undefined, at: instantOf(nowMs) });
    const done = await revocation.kill({ targets, reason: order.reason, by, requestId, receipt, endsAt }, () => {
      reach = look().catch((err: unknown) => void log.warn("receipt_incomplete", { requestId, err }));
    });
    const at = instantOf(done.atMs);
    const of = (found?: Reach): KeptReceipt => receiptOf({ order, targets, reach: found, at, replicas: done.replicas });
    const full = (await receipted(reach, { id: done.id, of })) ?? of();
    return { id: done.id, at, ...head, ...full, event_id: done.eventId };
  }

  return {
    kill,
    async read(id) {
      const stored = await revocation.read(id);
      if (!stored) return undefined;
      const { lines = [], replicas = [], ...rest } = stored.receipt as Partial<KeptReceipt>;
      return { ...factsOf(stored), dry_run: false, ...rest, lines: await asTheyStand(lines), replicas };
    },
    async list({ before, limit }) {
      const kills = await revocation.list({ before, limit: limit + 1 });
      const items = kills.slice(0, limit).map((one) => ({ ...factsOf(one), targets: [...one.keys] }));
      const last = kills.length > limit ? items.at(-1) : undefined;
      return { items, ...(last && { next: last.id }) };
    },
    async restore(order, call) {
      const { caller, request } = call;
      const targets = order.targets.flatMap(restorable);
      const command = { targets, reason: order.reason, by: actorOf(caller), requestId: request.requestId };
      const facts = { targets: targets.map(keyOf), why: order.reason };
      const { lifted, atMs, eventId } = await unlessKilled(sts.recorder, call, { type: "restore", facts }, () =>
        revocation.restore({ ...command, asker: askerOf(caller) }),
      );
      return { restored: lifted.map(liftedOf), at: instantOf(atMs), event_id: eventId };
    },
    sign: (receipt) => keys.attestor.sign(JWT_TYP.receipt, { iss: issuer, iat: clock.now(), receipt }),
  };
}

/** What is not known any more: nothing better is promised than what its upstream said at the time. */
const UNKNOWN: Ending = { atOnce: false, residualSeconds: Number.POSITIVE_INFINITY };

/** Receipts with their leases as they stand when asked for. */
function receipts({ sts: { db, clock, revocation, log }, kinds }: KillRoomDeps) {
  const endingBy = (kind: string, given: unknown): Ending => {
    const provider = kinds.get(kind);
    const settings = provider?.settings.safeParse(given);
    if (provider === undefined || settings?.success !== true) return UNKNOWN;
    const residualSeconds = provider.residualSeconds(settings.data);
    return { atOnce: provider.destroy !== undefined && residualSeconds === 0, residualSeconds };
  };
  const asTheyStand = async (lines: readonly ReceiptLine[]): Promise<ReceiptLine[]> => {
    const ids = lines.filter(({ kind }) => kind === "lease").map(({ id }) => id);
    return withLeases(lines, await leaseOutcomes(db, ids, { endingBy, now: clock.now() }));
  };
  return {
    asTheyStand,
    /** Keeps what it hit; undefined where that took too long or failed; then it is kept later, or as it was before. */
    receipted: (reach: Promise<Reach | undefined>, { id, of }: { id: string; of: (reach?: Reach) => KeptReceipt }) =>
      inTime(
        reach.then(async (found) => {
          const receipt = of(found);
          await revocation.keepReceipt(id, receipt).catch((err: unknown) => log.warn("receipt_not_kept", { err }));
          return { ...receipt, lines: await asTheyStand(receipt.lines) };
        }),
        (err) => log.warn("receipt_incomplete", { err }),
      ),
  };
}

function factsOf(stored: StoredKill): Pick<KillReceipt, "at" | "by" | "reason" | "ends_at" | "restored_at"> & {
  id: string;
} {
  const { id, atMs, by, reason, endsAt, restoredAtMs } = stored;
  return {
    id,
    at: instantOf(atMs),
    by,
    reason,
    ...(endsAt === undefined ? {} : { ends_at: instantOf(endsAt * 1_000) }),
    ...(restoredAtMs === undefined ? {} : { restored_at: instantOf(restoredAtMs) }),
  };
}

/** What is dead for ever is no target of a restore; its shape does not take any. */
function restorable(one: Named): KillTarget[] {
  if (one.kind === "all") return [{ kind: "all" }];
  return one.kind === "trace" ? [] : [{ kind: one.kind, value: one.value }];
}

function liftedOf(key: string): Restored["restored"][number] {
  const colon = key.indexOf(":");
  if (colon < 0) return { kind: "all", id: "all" };
  return { kind: key.slice(0, colon) as Restored["restored"][number]["kind"], id: key.slice(colon + 1) };
}

/** What came in time, or undefined; also when it failed. */
function inTime<T>(work: Promise<T>, failed: (error: unknown) => void): Promise<T | undefined> {
  return new Promise((resolve) => {
    const late = setTimeout(() => resolve(undefined), RECEIPT_MS);
    work
      .catch((error: unknown) => void failed(error))
      .then((found) => {
        clearTimeout(late);
        resolve(found ?? undefined);
      });
  });
}
