import type { Recorder } from "../audit/recorder.ts";
import { ProblemError } from "../api/problem.ts";
import type { KillPairs } from "../authz/ask.ts";
import type { ApprovalNeed } from "../core/grants/decision.ts";
import {
  AccessDeniedError,
  InvalidTokenError,
  SignInTooOldError,
  TemporarilyUnavailableError,
} from "../core/oauth/errors.ts";
import { decodeAction } from "../core/oauth/scope.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { ulid } from "../system/random.ts";
import type { Envelope } from "../vault/envelope.ts";
import type { Secrets } from "../vault/secrets.ts";
import type { Asking, StoredApproval } from "./approval.ts";
import { contentOf, digestOf, stillHolds, type CallFacts, type ExactCall, type SecretVersion } from "./content.ts";
import { isApproved, killKeysOf, nameOf, SELF_SIGN_IN_SECONDS, whyNotDecide, type Decider } from "./deciders.ts";
import { openCall, sealedCall } from "./sealed-call.ts";
import { listApprovals, readApproval } from "./store.ts";

/** Approvals of one chain that may wait at the same time: nobody reads a hundred, and what nobody reads is no approval. */
const MAX_WAITING = 100;
/** Two that decide or use at the same moment take turns. */
const ATTEMPTS = 5;

/** A call for which somebody is to be asked. */
export interface NewApproval {
  readonly facts: Omit<CallFacts, "secrets">;
  readonly secrets: readonly SecretVersion[];
  readonly needs: readonly ApprovalNeed[];
  readonly purpose: string | undefined;
  readonly deadline: EpochSeconds;
  /** What kills the node and the resource. */
  readonly killKeys: readonly string[];
  /** What would kill the caller now. */
  readonly caller: KillPairs;
  readonly requestId: string;
}

/** One decision. */
export interface DecideOrder {
  readonly id: string;
  readonly decider: Decider;
  readonly isApproving: boolean;
  readonly reason: string;
  readonly requestId: string;
}

/** The room. */
export interface Approvals {
  /**
   * The approval of a call: for the same content the same one, while it stands.
   *
   * @throws {InvalidTokenError} `killed`, `task_ended`; {AccessDeniedError} `overloaded`: too many of the chain wait
   */
  ask(order: NewApproval): Promise<StoredApproval>;
  /** The versions of secrets that count now. */
  versionsOf(secrets: readonly string[]): Promise<readonly SecretVersion[]>;
  read(id: string): Promise<StoredApproval | undefined>;
  /**
   * The call as it is shown to whoever may decide.
   *
   * @throws {DecryptError}
   */
  shown(stored: StoredApproval): Promise<ExactCall>;
  /** Newest first. @param page.asking only those that ask this agent, or this human about his own; @param page.txn only those of this chain */
  list(page: {
    status: "pending" | "all";
    before: string | undefined;
    limit: number;
    asking: Asking | undefined;
    txn: string | undefined;
  }): Promise<{ readonly items: readonly StoredApproval[]; readonly next: string | undefined }>;
  /**
   * Decides, and records it in the same step.
   *
   * @returns undefined for one that is not there
   * @throws {AccessDeniedError} `approver_is_requester`, `approver_not_asked`, `approver_unproven`, `role_missing`, `killed`, recorded
   * @throws {SignInTooOldError} `sign_in_too_old`, recorded
   * @throws {ProblemError} `conflict`: decided, used, expired, or void
   */
  decide(order: DecideOrder): Promise<StoredApproval | undefined>;
  /** Notes that it was used; that it works once is the gate's to see to. */
  used(id: string): Promise<void>;
}

interface ApprovalsDeps {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly trust: () => TrustIndex;
  readonly recorder: Recorder;
  readonly secrets: Pick<Secrets, "describe">;
  readonly envelope: Pick<Envelope, "seal" | "open">;
  /** Hash of the definition by which a tool is accepted now. */
  readonly toolHash: (resource: string, tool: string) => Promise<string | undefined>;
  /** Tells whoever waits for an approval to look at it. */
  readonly announce: (id: string) => void;
  /** Told of each approval that was made, decided or used here: channels have news. Never fails. */
  readonly changed: (id: string) => void;
}

/** Opens the room. */
export function createApprovals(deps: ApprovalsDeps): Approvals {
  const { db, clock } = deps;
  const read = async (id: string): Promise<StoredApproval | undefined> => {
    const stored = await readApproval(db, id, clock.now());
    return stored && (await asItStands(deps, stored));
  };
  const room: Approvals = {
    versionsOf: (names) => versionsOf(deps, names),
    read,
    shown: (stored) => openCall(deps.envelope, stored),
    async ask(order) {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const stored = await readApproval(db, await asked(deps, order), clock.now());
        // Somebody may have used it, or it may have ended, since a moment ago.
        if (stored && ["pending", "approved", "denied"].includes(stored.state)) return stored;
      }
      throw new TemporarilyUnavailableError({ reason: "overloaded" });
    },
    async list(page) {
      const found = await listApprovals(db, { ...page, limit: page.limit + 1, now: clock.now() });
      const all = await Promise.all(found.slice(0, page.limit).map((one) => asItStands(deps, one)));
      return {
        items: page.status === "all" ? all : all.filter(({ state }) => state === "pending"),
        next: found.length > page.limit ? all.at(-1)?.id : undefined,
      };
    },
    async decide(order) {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const stored = await read(order.id);
        if (!stored) return undefined;
        if (!(await decidedOn(deps, stored, order))) continue;
        deps.announce(order.id);
        deps.changed(order.id);
        return await read(order.id);
      }
      throw new TemporarilyUnavailableError({ reason: "overloaded" });
    },
    async used(id) {
      await db.query("update ephor.approvals set used_at = $2 where id = $1 and used_at is null", [id, clock.now()]);
      deps.changed(id);
    },
  };
  return room;
}

async function versionsOf({ secrets }: ApprovalsDeps, names: readonly string[]): Promise<readonly SecretVersion[]> {
  return await Promise.all(
    [...new Set(names)]
      .toSorted()
      .map(async (name) => ({ name, version: (await secrets.describe(name))?.version ?? 0 })),
  );
}

/** An open one hangs on trust objects and secrets that may have changed. */
async function asItStands(deps: ApprovalsDeps, stored: StoredApproval): Promise<StoredApproval> {
  if (stored.state !== "pending" && stored.state !== "approved") return stored;
  const { content } = stored;
  const versions = await versionsOf(
    deps,
    content.secrets.map(({ name }) => name),
  );
  const holds =
    stillHolds(deps.trust(), content) &&
    digestOf(versions) === digestOf(content.secrets) &&
    (await toolOf(deps, stored)) === content.tool;
  return holds ? stored : { ...stored, state: "void" };
}

/** A tool's name is its action: nobody opens what is sealed to learn it. */
async function toolOf(deps: ApprovalsDeps, { resource, content, action }: StoredApproval): Promise<string | null> {
  const name = content.tool === null ? undefined : decodeAction(action);
  return (name === undefined ? undefined : await deps.toolHash(resource, name)) ?? null;
}

/** @returns its id */
async function asked(deps: ApprovalsDeps, order: NewApproval): Promise<string> {
  const { db, clock, trust, recorder, envelope, changed } = deps;
  const { facts, secrets, needs, purpose, caller } = order;
  const content = contentOf(trust(), { ...facts, secrets });
  const now = clock.now();
  const id = `apr_${ulid(Math.floor(clock.nowMs()))}`;
  const approval = {
    id,
    digest: digestOf(content),
    txn: facts.txn,
    node: facts.node,
    agent: facts.path.at(-1),
    sub: facts.sub,
    resource: facts.resource,
    action: facts.action,
    path: facts.path,
    purpose,
    content,
    sealed: await sealedCall(envelope, id, facts.exact),
    needs: needs.map(({ agent, grant, by, count }) => ({ agent, grant, by, count })),
    status: "pending",
    kill_keys: order.killKeys,
    created_at: now,
    expires_at: Math.min(order.deadline, now + Math.min(...needs.map(({ withinSeconds }) => withinSeconds))),
  };
  const [row] = await db.query<{ r: { outcome: string; id?: string } }>(
    "select ephor.ask_approval($1, $2::jsonb, $3) as r",
    [
      Math.floor(clock.nowMs()),
      JSON.stringify({
        approval,
        kill_keys: caller.keys,
        kill_epochs: caller.epochs,
        channels: channelsFor(trust(), needs),
      }),
      MAX_WAITING,
    ],
  );
  const { outcome, id: known } = row?.r ?? { outcome: "internal" };
  if (outcome === "killed" || outcome === "task_ended") throw new InvalidTokenError({ reason: outcome });
  if (outcome === "too_many") throw new AccessDeniedError({ reason: "overloaded" });
  if (known === undefined) throw new TemporarilyUnavailableError({ reason: "internal" });
  if (outcome === "made") {
    changed(id);
    await recorder.noted({
      type: "approval.ask",
      agent: approval.agent,
      sub: facts.sub,
      txn: facts.txn,
      resource: facts.resource,
      requestId: order.requestId,
      facts: {
        approval: id,
        action: facts.action,
        path: facts.path,
        args_digest: content.args,
        grants: needs.map(({ grant }) => grant),
        expires_at: approval.expires_at,
      },
    });
  }
  return known;
}

/** Where it is asked for: at the channels that the grants name, and at all of them where one names none. */
function channelsFor(trust: TrustIndex, needs: readonly ApprovalNeed[]): readonly string[] {
  const all = trust.channels().map(({ name }) => name);
  const named = needs.map(({ notify }) => notify);
  return named.includes(undefined) ? all : all.filter((name) => named.some((list) => list?.includes(name)));
}

/** @returns false where another decision came between */
async function decidedOn(deps: ApprovalsDeps, stored: StoredApproval, order: DecideOrder): Promise<boolean> {
  const { db, clock, recorder } = deps;
  const { decider, isApproving, reason, requestId } = order;
  const trust = deps.trust();
  const by = nameOf(decider, stored);
  const draft = {
    type: "approval.decide",
    agent: by,
    sub: stored.sub,
    txn: stored.txn,
    resource: stored.resource,
    requestId,
    facts: {
      approval: stored.id,
      decision: isApproving ? "approve" : "deny",
      why: reason,
      asked_by: stored.agent,
      action: stored.action,
      args_digest: stored.content.args,
      ...(decider.kind === "person" && {
        via: decider.via,
        ...(decider.sub !== undefined && { person: decider.sub }),
      }),
    },
  } as const;
  const refusal = whyNotDecide(stored, decider, { trust, now: clock.now(), isApproving });
  if (refusal !== undefined) {
    await recorder.refused(draft, refusal);
    if (refusal === "sign_in_too_old")
      throw new SignInTooOldError({ reason: refusal, maxAgeSeconds: SELF_SIGN_IN_SECONDS });
    throw new AccessDeniedError({ reason: refusal });
  }
  if (stored.state !== "pending") throw over(stored.state);
  if (stored.decisions.some((one) => one.decider === by))
    throw new ProblemError("conflict", { detail: "You have decided on this already; it waits for somebody else." });
  const approvedBy = stored.decisions.filter(({ decision }) => decision === "approve").map((one) => one.decider);
  const approved = isApproved(stored, [...approvedBy, by], trust) ? "approved" : "pending";
  const [row] = await db.query<{ r: string }>(
    "select ephor.decide_approval($1, $2, $3::jsonb, $4, $5, $6::jsonb) as r",
    [
      Math.floor(clock.nowMs()),
      stored.id,
      JSON.stringify({
        decider: by,
        decision: isApproving ? "approve" : "deny",
        reason,
        via: decider.kind === "person" ? decider.via : null,
        kill_keys: killKeysOf(decider, trust),
        // Judged by these: whoever was changed or removed since is judged again.
        operator: decider.kind === "person" ? (decider.operator ?? null) : null,
        trust_version: trust.version,
      }),
      isApproving ? approved : "denied",
      stored.decisions.length,
      JSON.stringify(recorder.draft(draft, "granted")),
    ],
  );
  if (row?.r === "moved") return false;
  if (row?.r === "killed") {
    await recorder.refused(draft, "killed");
    throw new AccessDeniedError({ reason: "killed" });
  }
  if (row?.r !== "decided") throw over(row?.r ?? "void");
  return true;
}

const OVER: Readonly<Record<string, string>> = {
  approved: "It was approved already.",
  denied: "It was denied already.",
  used: "It was used already.",
  expired: "Its time is over; the call has to be made again.",
};

function over(state: string): ProblemError {
  const detail = OVER[state] ?? "It is void: the work was ended, killed or changed since it was asked for.";
  return new ProblemError("conflict", { detail });
}
