import type { Approvals } from "../approvals/approvals.ts";
import { approvalClaim } from "../approvals/claim.ts";
import { contentOf, digestOf, type CallFacts, type SecretVersion } from "../approvals/content.ts";
import { approvalUri, type StoredApproval } from "../approvals/approval.ts";
import type { Ask } from "../authz/ask.ts";
import type { Authorized } from "../authz/authorize.ts";
import type { Allowed } from "../core/grants/decision.ts";
import { InvalidRequestError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { deathKeys } from "../core/kill/keys.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { Place } from "../tasks/facts.ts";
import type { ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";
import { ApprovalRequiredError } from "./exchange.ts";

/** A call that was used by somebody else, or whose ground moved, is asked for anew; a world that never rests is given up. */
const ATTEMPTS = 4;

/** Where the signed claim of an approved call stands. Nobody else may send it: `mayForward` sees to that. */
export const APPROVAL_HEADER = "ephor-approval";

/** An approval that this very call has. */
export interface Approved {
  readonly stored: StoredApproval;
  /** The versions of what is injected that it was given for. */
  readonly secrets: readonly SecretVersion[];
}

/** A call that is granted, with what its approvals are judged by. */
interface Granted {
  readonly place: Place;
  readonly action: string;
  readonly allowed: Allowed;
}

/** Thrown where a decision is prepared: the call needs an approval that was not found yet. */
export class ApprovalMissing extends Error {
  readonly granted: Granted;

  constructor(granted: Granted) {
    super("approval missing");
    this.granted = granted;
  }
}

/**
 * The approval by which a granted call may go on, or undefined where it needs none.
 *
 * @param found what was found for it a moment ago; judged once more by everything as it is now
 * @throws {ApprovalMissing}
 */
export function approvalFor(
  deps: ProxyDeps,
  order: ProxiedCall,
  at: Granted & { found: Approved | undefined },
): Approved | undefined {
  const { allowed, found } = at;
  if (allowed.approvals === undefined) return undefined;
  const exact = order.exact?.();
  if (found === undefined || exact === undefined || deps.clock.now() >= found.stored.expiresAt)
    throw new ApprovalMissing(at);
  const facts = { ...factsOf(order, at, exact), secrets: found.secrets };
  if (digestOf(contentOf(deps.trust(), facts)) !== found.stored.digest) throw new ApprovalMissing(at);
  return found;
}

/** The ask of a call that goes by an approval: it is used up in the same step, and a kill since it was asked for is seen. */
export function byApproval(ask: Ask, approval: Approved | undefined): Ask {
  if (approval === undefined) return ask;
  const { id, killKeys, killEpoch, decisions, expiresAt } = approval.stored;
  const pairs = [{ killKeys, killEpoch }, ...decisions].flatMap((one) =>
    one.killKeys.map((key) => ({ key, epoch: one.killEpoch })),
  );
  return {
    ...ask,
    kill: {
      keys: [...ask.kill.keys, ...pairs.map(({ key }) => key)],
      epochs: [...ask.kill.epochs, ...pairs.map(({ epoch }) => epoch)],
    },
    replay: [...(ask.replay ?? []), { key: `approval:${id}`, exp: expiresAt }],
    event: {
      ...ask.event,
      facts: { ...ask.event.facts, approval: id, approved_by: decisions.map(({ decider }) => decider) },
    },
  };
}

/**
 * Has a call authorized that may need an approval: looks for the one that is there, or has it asked for.
 *
 * @param authorize with the approval that was found, if any
 * @param tell records a refusal, and answers its id
 * @throws {ApprovalRequiredError} nobody has decided yet, or it was denied; whatever `authorize` throws
 */
export async function throughApproval<T>(
  deps: ProxyDeps,
  order: ProxiedCall,
  by: {
    authorize: (found: Approved | undefined) => Promise<Authorized<T>>;
    tell: (reason: Reason, facts: Readonly<Record<string, string>>) => Promise<string>;
  },
): Promise<Authorized<T>> {
  let found: Approved | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      const result = await by.authorize(found);
      if (result.outcome !== "replayed" || found === undefined) return result;
      // Was it the approval that somebody used a moment ago, or a proof of the caller's?
      if ((await deps.approvals.read(found.stored.id))?.state !== "used") return result;
      found = undefined;
    } catch (error) {
      if (!(error instanceof ApprovalMissing) || order.tool?.isRecalled === true) throw error;
      found = await foundOrAsked(deps, order, { granted: error.granted, tell: by.tell });
    }
  }
  throw new TemporarilyUnavailableError({ reason: "overloaded" });
}

async function foundOrAsked(
  deps: ProxyDeps,
  order: ProxiedCall,
  at: { granted: Granted; tell: (reason: Reason, facts: Readonly<Record<string, string>>) => Promise<string> },
): Promise<Approved> {
  const { granted, tell } = at;
  const { place, allowed } = granted;
  const exact = order.exact?.();
  // What flows by is not known before it has flown: nobody could say what was approved.
  if (exact === undefined)
    throw new InvalidRequestError({
      reason: "content_type",
      status: 415,
      help: "A call that needs an approval must have a JSON body, or none.",
    });
  const secrets = await deps.approvals.versionsOf(order.secrets);
  const stored = await deps.approvals.ask({
    facts: factsOf(order, granted, exact),
    secrets,
    needs: allowed.approvals ?? [],
    purpose: order.holder.token.claims.purpose ?? place.task.purpose,
    deadline: place.task.deadline,
    killKeys: [...place.node.killKeys, deathKeys.resource(order.resource.name)],
    caller: {
      keys: [...order.holder.kill.keys, deathKeys.resource(order.resource.name)],
      epochs: [...order.holder.kill.epochs, null],
    },
    requestId: order.requestId,
  });
  if (stored.state === "approved") return { stored, secrets };
  const isDenied = stored.state === "denied";
  const decision = await tell(isDenied ? "approval_denied" : "approval_required", {
    approval: stored.id,
    action: granted.action,
    grant: allowed.approvals?.[0]?.grant ?? "",
  });
  throw new ApprovalRequiredError(decision, {
    id: stored.id,
    status: isDenied ? "denied" : "pending",
    uri: approvalUri(deps.issuer, stored.id),
    expires_at: new Date(stored.expiresAt * 1_000).toISOString(),
    by: stored.needs.flatMap((need) => need.by),
  });
}

function factsOf(
  order: ProxiedCall,
  { place, action, allowed }: Granted,
  exact: CallFacts["exact"],
): Omit<CallFacts, "secrets"> {
  return {
    txn: place.task.txn,
    node: place.node.id,
    path: place.node.path,
    sub: order.holder.token.claims.sub,
    resource: order.resource.name,
    action,
    exact,
    tool: order.toolHash,
    grants: allowed.grants,
  };
}

/** What is forwarded with an approved call, once the gate has used its approval up. */
export function goesWith(
  deps: ProxyDeps,
  order: ProxiedCall,
  { stored, secrets }: Approved,
): { claim: string; secrets: readonly SecretVersion[] } {
  deps.approvals
    .used(stored.id)
    .catch((err: unknown) => deps.log.warn("approval_use_not_noted", { requestId: order.requestId, err }));
  const { method, path } = order.call;
  const claim = approvalClaim(deps.attestor, stored, {
    issuer: deps.issuer,
    audience: order.resource.identifier,
    now: deps.clock.now(),
    facts: {
      ...(typeof method === "string" && { method }),
      ...(typeof path === "string" && { target: path }),
    },
  });
  return { claim, secrets };
}

/** What the room of approvals gives the proxy. */
export type ProxyApprovals = Pick<Approvals, "ask" | "read" | "versionsOf" | "used">;
