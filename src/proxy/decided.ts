import type { Ask, RememberedPin } from "../authz/ask.ts";
import type { CredentialUse, InjectedCredential } from "../broker/injected.ts";
import type { EventDraft, EventValue } from "../audit/event.ts";
import type { Decision } from "../core/grants/decide.ts";
import type { Allowed } from "../core/grants/decision.ts";
import { deathKeys } from "../core/kill/keys.ts";
import {
  InsufficientScopeError,
  InvalidTokenError,
  OAuthError,
  TemporarilyUnavailableError,
} from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { Permit, SealedSecret } from "../core/permit.ts";
import { onceKeys } from "../core/token/once.ts";
import type { InspectRule } from "../core/trust/inspect-schema.ts";
import type { Resource } from "../core/trust/model.ts";
import type { ExactCall } from "../approvals/content.ts";
import type { Place } from "../tasks/facts.ts";
import type { Admission } from "./admission.ts";
import { approvalFor, byApproval, goesWith, throughApproval, type Approved } from "./approved.ts";
import { credentialFor } from "./credential-for.ts";
import type { Holder, ProxyDeps } from "./deps.ts";
import { DeniedError, LimitedError, type ProxiedRequest } from "./exchange.ts";
import { answerSecretOf, checkInspected, inspectRequest, requestRuleOf } from "./inspection.ts";
import type { ChangedCall, SentCall } from "./sent-call.ts";
import { judge, mayUse, type Judged } from "./judge.ts";
import { asItIs, byItsTool, isByMemory, type CalledTool } from "./recalled.ts";
import { Refusal, saidOf, toldOf } from "./refusal.ts";
import { argumentsKept, refusedKept, type CallContent } from "./recording.ts";
import { toldBy } from "./told-by.ts";

/** One call that is to be decided. */
export interface ProxiedCall {
  readonly resource: Resource;
  readonly holder: Holder;
  readonly requestId: string;
  /** Any of these stands for it, in order; encoded as in scopes. */
  readonly actions: readonly string[];
  /** Needs no grant, only a good token for the resource: what it is called in the record. */
  readonly free?: string;
  readonly args: Readonly<Record<string, unknown>>;
  readonly call: Readonly<Record<string, unknown>>;
  /** What the event tells of it, beside who and where. */
  readonly facts: Readonly<Record<string, EventValue>>;
  /** Secrets that forwarding it needs. */
  readonly secrets: readonly string[];
  /** What it needs in place of secrets. */
  readonly credential?: CredentialUse | undefined;
  /** The call as an approval is bound to it, made when asked for; absent where nobody knows it before it has flown by. */
  readonly exact?: () => ExactCall;
  /** Its arguments, for whoever keeps them; absent where it is no call of its own. */
  readonly content?: () => CallContent;
  /** What changes where an inspector left other arguments; undefined where they cannot be these. */
  readonly withArguments?: (value: unknown) => ChangedCall | undefined;
  /** By which rule it was inspected. */
  readonly inspectedBy?: InspectRule;
  /** What is sent, where that is not the message as it came. */
  readonly sends?: SentCall;
  /** Calls back when its caller is gone. */
  readonly whenGone?: ProxiedRequest["whenGone"];
  /** Hash of the called tool's accepted definition. */
  readonly toolHash?: string | undefined;
  /** Why it is refused although it is granted: its tool is not the one that was accepted. */
  readonly blocked?: Pick<Extract<Decision, { allowed: false }>, "reason" | "facts">;
  /** The tool that it calls, and its accepted definition as it is known: the gate sees whether it is still that. */
  readonly tool?: CalledTool;
  readonly pin?: RememberedPin | undefined;
  /** Of the caller's trace. */
  readonly traceId?: string | undefined;
  /** The limit that it is beyond at a resource that only observes. */
  readonly over?: Reason | undefined;
  /** Belongs to a call that may be in progress, as a notification or an answer to its server does: it has a place beside it. */
  readonly isAside?: boolean;
  /** A stream that only tells of a session: it lasts, and would take the place of the calls that it tells of. */
  readonly isListening?: boolean;
  /** When its exchange is over; absent where it is no call of its own, but belongs to one. */
  readonly whenOver?: (call: () => void) => void;
}

/** A call that may be forwarded. */
export interface DecidedCall {
  readonly permit: Permit;
  readonly opens: ReadonlyMap<string, Permit>;
  /** The secrets that they open, as they lay when the gate was asked. */
  readonly sealed: ReadonlyMap<string, SealedSecret>;
  readonly credential: InjectedCredential | undefined;
  readonly action: string;
  readonly allowed: Allowed;
  /** What kills it, and the kill epoch at which it was decided. */
  readonly keys: readonly string[];
  readonly epoch: number;
  readonly eventId: string;
  /** The call as it was decided on: an inspector may have changed it. */
  readonly order: ProxiedCall;
  /** Everybody in the chain, oldest first. */
  readonly path: readonly string[];
  /** Where the call was approved: what its upstream is told, signed, and the secrets it was approved with. */
  readonly approval?: { readonly claim: string; readonly secrets: Approved["secrets"] };
  /** Whether the token and the grants, as they are now, allow another action of the resource: for what a list shows. */
  readonly mayUse: (action: string) => boolean;
}

/**
 * Decides a call by the token's scopes and the grants as they are now, and records it, in one step of the gate.
 *
 * @throws {InsufficientScopeError} granted, but not in this token; {DeniedError} not granted; {InvalidTokenError} killed,
 * ended or replayed; {LimitedError} granted, but not now; {TemporarilyUnavailableError} the database cannot be asked
 */
export async function decided(deps: ProxyDeps, asked: ProxiedCall): Promise<DecidedCall> {
  const { state } = asked.holder.token;
  const place = await deps.places.find(state.txn, state.node);
  if (!place) return await refused(deps, asked, new InvalidTokenError({ reason: "token_unknown" }));
  const rule = requestRuleOf(deps, asked);
  // Nobody is shown a call by memory, and nothing is made for it.
  const isPlain = rule === undefined && asked.credential === undefined;
  const { order, admission } = await admitted(deps, isPlain ? asked : await asItIs(asked), place);
  try {
    if (rule !== undefined) {
      const looked = await inspected(deps, order, { place, rule });
      return await byItsTool({ ...looked, inspectedBy: rule }, (as) => throughGate(deps, as, place));
    }
    return await byItsTool(order, (as) => throughGate(deps, as, place));
  } catch (error) {
    admission.notMade();
    throw error;
  }
}

/** A call that has its place. */
async function admitted(
  deps: ProxyDeps,
  asked: ProxiedCall,
  place: Place,
): Promise<{ order: ProxiedCall; admission: Admission }> {
  const admit = async (order: ProxiedCall): Promise<{ order: ProxiedCall; admission: Admission }> => {
    const admission = await deps.admissions.admit(order, () => void judge(deps, order, place));
    return { order: { ...order, over: admission.over ?? order.over }, admission };
  };
  try {
    return await admit(asked);
  } catch (error) {
    if (!isByMemory(asked, error)) return await refused(deps, asked, error);
    const order = await asItIs(asked);
    return await admit(order).catch((again: unknown) => refused(deps, order, again));
  }
}

/** Shown to whoever the resource says, where the grants allow it: the gate decides on what comes back. */
async function inspected(
  deps: ProxyDeps,
  order: ProxiedCall,
  { place, rule }: { place: Place; rule: InspectRule },
): Promise<ProxiedCall> {
  const look = async (): Promise<string> => judge(deps, order, place).action;
  const action = await look().catch((error: unknown) => refused(deps, order, error));
  const result = await inspectRequest(deps, order, { rule, place, action });
  if (result.kind === "goes") return result.order;
  if (result.kind === "cut") return await refused(deps, order, result.error);
  const { reason, facts } = result;
  const looked = { action, path: place.node.path, considered: [] };
  const told = { ...order, facts: { ...order.facts, ...facts } };
  return await refused(deps, told, new Refusal({ allowed: false, reason, facts: {} }, { looked }));
}

async function throughGate(deps: ProxyDeps, order: ProxiedCall, place: Place): Promise<DecidedCall> {
  const { holder, resource } = order;
  const own = {
    keys: [...holder.kill.keys, deathKeys.resource(resource.name)],
    epochs: [...holder.kill.epochs, null],
  };
  let kill = own;
  let credential: InjectedCredential | undefined;
  const prepare = (found: Approved | undefined): { ask: Ask; value: Judged & { approved?: Approved | undefined } } => {
    const judged = judge(deps, order, place);
    const approved = approvalFor(deps, order, { ...judged, place, found });
    const ask = askOf(deps, order, { place, judged, kill, lease: credential?.lease });
    return { ask: byApproval(ask, approved), value: { ...judged, approved } };
  };
  const tell = (reason: Reason, facts: Readonly<Record<string, EventValue>>): Promise<string> =>
    recordRefusal(deps, order, { facts: { path: place.node.path, ...facts }, reason });
  const obtain = async (use: CredentialUse, found: Approved | undefined): Promise<void> => {
    // For what is refused, or waits for somebody, nothing is made.
    const { action } = prepare(found).value;
    const judgeCall = (): Allowed => judge(deps, order, place).allowed;
    credential = await credentialFor(deps, order, { use, action, tell, judge: judgeCall });
    const { keys, epochs } = credential.kill;
    kill = { keys: [...own.keys, ...keys], epochs: [...own.epochs, ...epochs] };
  };
  const result = await throughApproval(deps, order, {
    authorize: async (found) => {
      // Each time: it may have waited for somebody since.
      if (order.credential !== undefined) await obtain(order.credential, found);
      return await deps.authorizer.authorize(() => prepare(found));
    },
    tell,
  }).catch((error: unknown) => {
    if (isByMemory(order, error)) throw error;
    return refused(deps, order, error);
  });
  if (result.outcome !== "granted") {
    if (result.outcome === "killed") credential?.forget();
    throw new InvalidTokenError({ reason: result.outcome === "continue" ? "internal" : result.outcome });
  }
  const { permit, opens, sealed, epoch, value } = result;
  const { approved, ...judged } = value;
  return {
    permit,
    opens,
    sealed,
    credential,
    epoch,
    keys: kill.keys,
    eventId: permit.eventId,
    order,
    path: place.node.path,
    mayUse: (action) => mayUse(deps, { order, place, action }),
    ...(approved && { approval: goesWith(deps, order, approved) }),
    ...judged,
  };
}

function askOf(
  deps: ProxyDeps,
  order: ProxiedCall,
  at: { place: Place; judged: Judged; kill: Ask["kill"]; lease: string | undefined },
): Ask {
  const { holder, secrets } = order;
  const { state } = holder.token;
  const { allowed, action } = at.judged;
  checkInspected(deps, order);
  const kept = argumentsKept(deps, order);
  const inspecting = answerSecretOf(deps, order);
  const opens = inspecting === undefined ? secrets : [...secrets, inspecting];
  return {
    action: "call.forward",
    keeping: kept?.keeping,
    target: order.resource.name,
    actor: holder.agent.name,
    trustVersion: deps.trust().version,
    kill: at.kill,
    task: { txn: state.txn, nodes: [state.node] },
    ...(opens.length > 0 ? { opens, brings: secrets } : {}),
    pin: order.pin,
    replay: [
      ...(holder.proof ? [{ key: holder.proof.replayKey, exp: holder.proof.replayUntil }] : []),
      // A use; what is always allowed, such as a list, is none.
      ...(order.free === undefined ? onceKeys(holder.token.claims, allowed.once) : []),
    ],
    event: eventOf(deps, order, {
      action,
      path: at.place.node.path,
      grants: allowed.grants.map(({ grant }) => grant),
      lease: at.lease,
      would_refuse: allowed.wouldRefuse?.reason ?? order.over,
      considered: toldOf(at.judged.looked),
      ...kept?.facts,
    }),
  };
}

function eventOf(deps: ProxyDeps, order: ProxiedCall, facts: Readonly<Record<string, EventValue>>): EventDraft {
  const { owner } = order.holder.agent;
  const all = { ...order.facts, ...facts, owner, trust_version: deps.trust().version };
  return { type: "call.forward", ...toldBy(order), facts: all };
}

/** Records a refusal, with the arguments of the call where they are kept. @returns its id */
export function recordRefusal(
  deps: ProxyDeps,
  order: ProxiedCall,
  { facts, reason }: { facts: Readonly<Record<string, EventValue>>; reason: Reason },
): Promise<string> {
  const kept = refusedKept(deps, order);
  return deps.recorder.refused(eventOf(deps, order, { ...facts, ...kept?.facts }), reason, kept?.keeping);
}

/**
 * Records a refusal that the gate did not see, once: by decision, by the token's end, or because what was sent cannot be
 * read (INV-29).
 */
export async function refused(deps: ProxyDeps, order: ProxiedCall, thrown: unknown): Promise<never> {
  // Who was killed since his token was first seen learns that, and nothing about grants.
  const isDead = saysNo(thrown) && !(await deps.stillLives(order.holder));
  const error = isDead ? new InvalidTokenError({ reason: "token_revoked" }) : thrown;
  if (error instanceof Refusal) {
    const { decision, lacking, looked } = error;
    const facts = {
      ...decision.facts,
      action: looked?.action ?? order.actions[0],
      path: looked?.path,
      considered: toldOf(looked),
    };
    const id = await recordRefusal(deps, order, { facts, reason: decision.reason });
    if (lacking !== undefined) throw new InsufficientScopeError({ reason: "insufficient_scope", scope: lacking });
    throw new DeniedError(id, saidOf(decision));
  }
  if (error instanceof LimitedError) {
    const { reason, retryAfterSeconds } = error;
    const facts = { action: order.actions[0] ?? order.free, retry_after: retryAfterSeconds };
    throw new LimitedError(reason, retryAfterSeconds, await deps.recorder.refused(eventOf(deps, order, facts), reason));
  }
  if (error instanceof OAuthError && !(error instanceof TemporarilyUnavailableError))
    await deps.recorder.refused(eventOf(deps, order, error.facts), error.reason);
  throw error;
}

/** Whether it is a no of ours that has nothing to do with the token's own end. */
function saysNo(error: unknown): boolean {
  if (error instanceof Refusal || error instanceof LimitedError) return true;
  const isElse = error instanceof TemporarilyUnavailableError || error instanceof InvalidTokenError;
  return error instanceof OAuthError && !isElse;
}
