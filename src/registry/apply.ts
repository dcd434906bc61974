import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Agent, TrustKind } from "../core/trust/model.ts";
import type { TrustProblem } from "../core/trust/problem.ts";
import type { TrustEntry } from "../core/trust/schema.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { sha256Hex } from "../system/hash.ts";
import { checkEntries, checkRemaining } from "./check.ts";
import type { CheckProgram, CheckSettings } from "./check.ts";
import { canonicalJson } from "./difference.ts";
import { TrustRefusedError } from "./errors.ts";
import { forbiddenChanges } from "./guard.ts";
import type { Actor } from "./guard.ts";
import { merge } from "./merged.ts";
import { isKilledByRemoval, planChanges } from "./plan.ts";
import type { Change, Plan } from "./plan.ts";
import { applyTrust, readForPlan, readSource } from "./store.ts";
import type { ApplyCall, StoredObject } from "./store.ts";
import { formatPath } from "./trust-file.ts";
import type { FileProblem } from "./trust-file.ts";
import { findWarnings } from "./warnings.ts";

/** How often a change is planned anew because another was applied in between. */
const MAX_ATTEMPTS = 3;
/** Objects named in the audit event; beyond, the count tells. */
const MAX_NAMED = 100;

/** What the room needs. */
export interface RegistryDeps {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly issuerUrl: string;
  readonly checkSettings: CheckSettings;
  readonly checkProgram?: CheckProgram;
  /** Told of each change that this replica took in (`createMirror`). */
  readonly changed?: (keys: readonly string[], position: number) => void;
  /**
   * Waits until no replica can release anything more that rests on what was taken away; never throws, for the change stands.
   *
   * @param position the kill position of the change
   * @param killed the keys of what it kills
   */
  readonly withdrawn?: (position: number, killed: readonly string[]) => Promise<void>;
  /**
   * Makes the ledger's row. The ledger is another room's; it is handed in.
   *
   * @param atMs milliseconds by the database's clock
   */
  readonly event: (
    draft: {
      type: "trust.apply" | "agent.status";
      agent: string;
      requestId?: string;
      facts: Readonly<Record<string, string | number | readonly string[]>>;
    },
    atMs: number,
  ) => { readonly id: string };
}

/** The live index and the way to bring it to a version. */
export interface Live {
  readonly trust: TrustIndex;
  catchUp(minVersion: number): Promise<void>;
}

/** A wanted change, before it is planned. */
export interface Wish {
  readonly source: string;
  readonly actor: Actor;
  readonly type: "trust.apply" | "agent.status";
  /** Recorded with the source; absent for single objects. */
  readonly digest?: string;
  /** The objects to be written; judged by every check. */
  readonly entries: readonly TrustEntry[];
  /** What has to be read to say what changes: objects by name, and for a file all that its source owns. */
  readonly reads: {
    readonly wholeSource: boolean;
    readonly names: readonly { readonly kind: TrustKind; readonly name: string }[];
  };
  readonly place?: (problem: TrustProblem) => FileProblem;
  readonly expectedVersion?: number;
  /** More for the audit event. */
  readonly facts?: Readonly<Record<string, string | number>>;
  /** Says what changes, given what is stored. */
  readonly changes: (stored: readonly StoredObject[]) => {
    readonly changes: readonly Change[];
    readonly unchanged: number;
    readonly conflicts: readonly TrustProblem[];
  };
}

/** What came of a change. */
export interface Applied {
  readonly outcome: "applied" | "unchanged";
  readonly plan: Plan;
  /** The trust version with the change in it. */
  readonly version: number;
  /** Id of the audit event; none when nothing changed. */
  readonly eventId?: string;
}

/** The digest of a source's objects: the same for the same objects, however they are written. */
export function digestOf(entries: readonly TrustEntry[]): string {
  const objects = entries
    .map(({ kind, name, body }) => [kind, name, body])
    .toSorted((a, b) => (`${a[0]}/${a[1]}` < `${b[0]}/${b[1]}` ? -1 : 1));
  return sha256Hex(canonicalJson(objects));
}

/** A whole source's objects as a wish. */
export function wishForSource(
  source: string,
  entries: readonly TrustEntry[],
  rest: Pick<Wish, "actor" | "place" | "expectedVersion">,
): Wish {
  return {
    source,
    entries,
    type: "trust.apply",
    reads: { wholeSource: true, names: entries },
    digest: digestOf(entries),
    ...rest,
    changes: (stored) => planChanges(source, entries, stored, "whole"),
  };
}

/**
 * Plans a change against the objects as they are now.
 *
 * @throws {TrustRefusedError} `trust_invalid`, `trust_conflict`, `trust_forbidden`, `trust_stale`
 */
export async function planWish(deps: RegistryDeps, live: Live, wish: Wish): Promise<Plan> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const { version, objects } = await readForPlan(
      deps.db,
      wish.reads.wholeSource ? wish.source : null,
      wish.reads.names,
    );
    if (wish.expectedVersion !== undefined && wish.expectedVersion !== version)
      throw new TrustRefusedError("trust_stale");
    await live.catchUp(version);
    // The index went past what was read: another change was applied in between.
    if (live.trust.version === version) return judge(deps, live.trust, wish, { version, objects });
  }
  throw new TrustRefusedError("trust_stale");
}

function judge(
  deps: RegistryDeps,
  trust: TrustIndex,
  wish: Wish,
  at: { version: number; objects: readonly StoredObject[] },
): Plan {
  const place =
    wish.place ?? ((problem) => ({ key: formatPath(problem.path), what: problem.what, mend: problem.mend }));
  const refuseIf = (
    code: "trust_conflict" | "trust_invalid" | "trust_forbidden",
    problems: readonly TrustProblem[],
  ): void => {
    if (problems.length > 0) throw new TrustRefusedError(code, problems.map(place));
  };
  const { changes, unchanged, conflicts } = wish.changes(at.objects);
  refuseIf("trust_conflict", conflicts);
  refuseIf("trust_forbidden", forbiddenChanges(wish.actor, changes, trust, wish.entries));
  const merged = merge(trust, wish.entries, changes);
  const now = deps.clock.now();
  const context = {
    merged,
    issuerUrl: deps.issuerUrl,
    now,
    checkSettings: deps.checkSettings,
    checkProgram: deps.checkProgram,
  };
  refuseIf("trust_invalid", [...checkEntries(wish.entries, context), ...checkRemaining(wish.entries, changes, merged)]);
  const warnings = findWarnings(trust, wish.entries, { merged, changes, now }).map(place);
  return { source: wish.source, version: at.version, changes, unchanged, warnings };
}

/**
 * Plans and applies a change: all of it, or nothing. Planned again, a few times, when another change came first. Where it
 * takes something away it is as good as a kill when this resolves: no replica releases anything more that rests on it.
 *
 * @throws {TrustRefusedError} as `planWish`
 * @throws {InvalidTokenError} `killed`: whoever asks for it was, before it was done
 * @throws {DatabaseUnreachableError} `database_unreachable`; with `outcomeUnknown` it may have been applied
 */
export async function applyWish(deps: RegistryDeps, live: Live, wish: Wish): Promise<Applied> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const plan = await planWish(deps, live, wish);
    if (plan.changes.length === 0 && (await isKnownText(deps.db, wish)))
      return { outcome: "unchanged", plan, version: plan.version };
    const atMs = deps.clock.nowMs();
    const event = deps.event(eventOf(wish, plan), atMs);
    const call: ApplyCall = {
      at: Math.floor(atMs),
      expected_version: plan.version,
      source: wish.digest === undefined ? null : wish.source,
      digest: wish.digest ?? null,
      upserts: plan.changes.flatMap(({ kind, name, body }) =>
        body === undefined ? [] : [{ kind, name, source: wish.source, body }],
      ),
      deletes: plan.changes.filter((change) => change.op === "delete").map(({ kind, name }) => ({ kind, name })),
      kills: plan.changes.flatMap(killOf),
      // What is only added takes nothing from anybody.
      withdraws: plan.changes.some((change) => change.op !== "create"),
      event,
    };
    const asker = wish.actor.type === "agent" ? wish.actor.asker : undefined;
    const result = await applyTrust(deps.db, call, asker);
    if (result.outcome === "stale") continue;
    await live.catchUp(result.version);
    const killed = call.kills.map(({ kind, name }) => `${kind}:${name}`);
    if (typeof result.position === "number") await deps.withdrawn?.(result.position, killed);
    return { outcome: "applied", plan, version: result.version, eventId: event.id };
  }
  throw new TrustRefusedError("trust_stale");
}

/** A file that changes nothing is recorded all the same when its source was last applied with another, or never. */
async function isKnownText(db: Db, wish: Wish): Promise<boolean> {
  if (wish.digest === undefined) return true;
  return (await readSource(db, wish.source, wish.digest)).current === wish.digest;
}

const KILL_KINDS = { issuers: "issuer", agents: "agent", resources: "resource" } as const;

/** What tells an issuer's tokens from another's: under another URL the same name is another issuer. */
const ISSUER_IDENTITY: ReadonlySet<string> = new Set(["url", "spiffe"]);

/**
 * Removing an agent, an issuer or a resource is a kill of it (CONTRACT §4), and so is giving an issuer's name to another
 * issuer: its humans and workloads are others. A grant just ceases to grant. Of an operator who is removed or changed only the
 * decisions die that were not used yet: somebody else may have been asked.
 */
function killOf(change: Change): ApplyCall["kills"] {
  if (change.kind === "operators") return change.op === "create" ? [] : [{ kind: "operator", name: change.name }];
  const isExchanged =
    change.kind === "issuers" &&
    change.op === "update" &&
    change.differences.some((difference) => ISSUER_IDENTITY.has(difference.path));
  if (!isKilledByRemoval(change.kind) || (change.op !== "delete" && !isExchanged)) return [];
  return [{ kind: KILL_KINDS[change.kind], name: change.name }];
}

function eventOf(wish: Wish, plan: Plan): Parameters<RegistryDeps["event"]>[0] {
  const facts: Record<string, string | number | readonly string[]> = { source: wish.source, fromVersion: plan.version };
  for (const [op, word] of [
    ["create", "created"],
    ["update", "updated"],
    ["delete", "deleted"],
  ] as const) {
    const names = plan.changes.filter((change) => change.op === op).map(({ kind, name }) => `${kind}/${name}`);
    if (names.length === 0) continue;
    facts[word] = names.slice(0, MAX_NAMED);
    facts[`${word}Count`] = names.length;
  }
  if (wish.digest !== undefined) facts["digest"] = wish.digest;
  const actor = nameOf(wish.actor);
  const { requestId } = wish.actor;
  return {
    type: wish.type,
    agent: actor,
    ...(requestId !== undefined && { requestId }),
    facts: { ...facts, ...wish.facts },
  };
}

function nameOf(actor: Actor): string {
  switch (actor.type) {
    case "operator":
      return `operator:${actor.id}`;
    case "person":
      return `operator:${actor.operator}`;
    case "agent":
      return actor.name;
  }
}

/** A status that an operator sets, as a change to an agent that stays in its source's hands. */
export function statusChange(stored: StoredObject, status: Agent["status"]): Change {
  const { status: before, ...written } = stored.body as StoredObject["body"] & { status?: Agent["status"] };
  return {
    op: "update",
    kind: "agents",
    name: stored.name,
    differences: [{ path: "status", before: JSON.stringify(before ?? "active"), after: JSON.stringify(status) }],
    body: status === "active" ? written : { ...written, status },
  };
}
