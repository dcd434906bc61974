import { InvalidRequestError } from "../core/oauth/errors.ts";
import { TOKEN_TYPE } from "../core/oauth/vocabulary.ts";
import type { ReplayKey } from "../authz/ask.ts";
import { appendActor, agentSub } from "../core/delegation/chain.ts";
import { checkMayAct } from "../core/delegation/may-act.ts";
import { onceKeys } from "../core/token/once.ts";
import { RefusedToken } from "../core/token/refused.ts";
import { compileMatchers, matchClaims, type CompiledMatcher } from "../core/trust/matcher.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { ClaimMatchers, Issuer } from "../core/trust/model.ts";
import { humanSub } from "../core/trust/person.ts";
import type { Subject } from "../core/trust/subject.ts";
import type { VerifiedToken } from "../federation/verify.ts";
import type { HandOverFacts, Place } from "../tasks/facts.ts";
import { actingAgent, faced, type ActingAgent } from "./acting-agent.ts";
import type { StsDeps } from "./deps.ts";
import { looksOwn, readOwnToken } from "./own-token.ts";
import type { Context } from "./request.ts";

/** Where in which task the new token will stand. */
export type Origin =
  /** A first exchange: a task is opened by it, or continued where this subject token opened one. */
  | {
      readonly kind: "open";
      readonly subject: Subject;
      /** Whose token named the human, as it was trusted when the token was read. */
      readonly issuer?: Issuer;
      readonly subjectKey: SubjectKey | undefined;
      readonly deadline: number;
      /** Bounds all of the task that is opened; absent: nothing but the grants does. */
      readonly ceiling?: readonly string[] | null;
    }
  | { readonly kind: "continue"; readonly place: Place; readonly subjectKey?: SubjectKey | undefined }
  /** A hand-over that the addressee uses for the first time. */
  | {
      readonly kind: "redeem";
      readonly from: Place;
      readonly handOver: HandOverFacts;
      readonly path: readonly string[];
    };

/** What remembers whose subject token this is. */
export interface SubjectKey {
  readonly key: string;
  readonly exp: number;
  readonly singleUse: boolean;
}

/** A verified human: by an ID or access token, or by an ID-JAG. */
export type Person = Pick<VerifiedToken, "issuer" | "claims" | "sub" | "authTime" | "key" | "exp">;

/** A proved request: who acts, and from where. */
export interface Proved {
  readonly acting: ActingAgent;
  readonly origin: Origin;
  /** What else is spent with it. */
  readonly replay?: readonly ReplayKey[];
}

/**
 * Reads `subject_token` and `subject_token_type`, and who acts.
 *
 * @throws {InvalidRequestError} for whatever is wrong with a token (RFC 8693 §2.2.2)
 */
export async function proveExchange(deps: StsDeps, context: Context): Promise<Proved> {
  const { form } = context;
  const token = form.get("subject_token");
  const type = form.get("subject_token_type");
  if (token === undefined || type === undefined) {
    throw new InvalidRequestError({
      reason: "parameter_missing",
      help: "subject_token and subject_token_type are required.",
    });
  }
  try {
    if (type === TOKEN_TYPE.task) return await byHandle(deps, context, token);
    if (type !== TOKEN_TYPE.accessToken && type !== TOKEN_TYPE.jwt && type !== TOKEN_TYPE.idToken) {
      throw new InvalidRequestError({
        reason: "token_type_unsupported",
        help: "This subject_token_type is not served.",
      });
    }
    if (looksOwn(deps, token)) return await byHandOver(deps, context, token, type);
    return await byOutsideToken(deps, context, token, type);
  } catch (error) {
    throw faced(error);
  }
}

async function byOutsideToken(deps: StsDeps, context: Context, token: string, type: string): Promise<Proved> {
  const proofJkt = context.proof?.jkt;
  const verified = await deps.federation.verify(token, {
    use: "subject",
    tokenType: type,
    proofJkt,
    mayHaveExpired: proofJkt !== undefined,
  });
  if (verified.identifies === "workloads") {
    const acting = await actingAgent(deps, context, verified);
    const origin = forItself(deps, acting, verified);
    if (!verified.hasExpired) return { acting, origin };
    return { acting, origin: await resumed(deps, { acting, origin, jkt: proofJkt }) };
  }
  const acting = await actingAgent(deps, context);
  return { acting, origin: forHuman(deps, acting, verified) };
}

/**
 * A single-use token after its end: only the agent that opened a task with it, by the key it came with, in that task. The
 * gate checks the same once more.
 *
 * @throws {RefusedToken} `token_expired`
 */
async function resumed(
  deps: StsDeps,
  at: { acting: ActingAgent; origin: Origin & { kind: "open" }; jkt: string | undefined },
): Promise<Origin> {
  const { acting, origin, jkt } = at;
  const opened = origin.subjectKey && (await deps.places.openedBy(origin.subjectKey.key));
  if (!opened || jkt === undefined || opened.jkt !== jkt || opened.agent !== acting.agent.name) {
    throw new RefusedToken({ reason: "token_expired" });
  }
  return { kind: "continue", place: opened.place, subjectKey: origin.subjectKey };
}

/** An agent for itself. With a workload's token, its second use continues the task that its first one opened. */
export function forItself(deps: StsDeps, acting: ActingAgent, verified?: VerifiedToken): Origin & { kind: "open" } {
  const { agent } = acting;
  return {
    kind: "open",
    subject: { type: "agent", agent: agent.name, sub: agentSub(agent.name) },
    subjectKey: verified && {
      key: `subject:${verified.key}`,
      exp: verified.exp + 60,
      singleUse: verified.issuer.singleUse,
    },
    deadline: deps.clock.now() + deps.taskSeconds.default,
  };
}

/**
 * A human, whose token this agent carries.
 *
 * @throws {RefusedToken} `may_act_mismatch`, `subject_from_mismatch`, `subject_too_old`
 */
export function forHuman(deps: StsDeps, acting: ActingAgent, verified: Person): Origin & { kind: "open" } {
  const subject = humanSubject(acting, verified);
  return {
    kind: "open",
    subject,
    issuer: verified.issuer,
    subjectKey: { key: `subject:${verified.key}`, exp: verified.exp + 60, singleUse: false },
    deadline: humanDeadline(deps, verified, deps.clock.now() + deps.taskSeconds.default),
  };
}

const compiledSubjects = new WeakMap<ClaimMatchers, readonly CompiledMatcher[]>();

/** An agent's `subject_from` is compiled once for as long as the agent stays as it is. */
function compiledOnce(matchers: ClaimMatchers): readonly CompiledMatcher[] {
  const compiled = compiledSubjects.get(matchers) ?? compileMatchers(matchers);
  compiledSubjects.set(matchers, compiled);
  return compiled;
}

/**
 * Judges a human's issuer, and whether this agent may carry him, once more by the trust index as it is now. Called where it is
 * decided, as the acting agent's proof is judged again there: trust may have changed since the token was read (A-OIDC-02).
 *
 * @param at.agent name of the acting agent
 * @throws {InvalidRequestError} `token_issuer_disabled`, `subject_from_mismatch`
 */
export function recheckSubject(trust: TrustIndex, at: { origin: Origin; subject: Subject; agent: string }): void {
  const { origin, subject, agent } = at;
  if (subject.type !== "human") return;
  const issuer = trust.issuerByName(subject.issuer);
  const isAsRead = origin.kind !== "open" || origin.issuer === undefined || origin.issuer === issuer;
  if (!isAsRead || issuer?.identifies !== "humans") {
    throw new InvalidRequestError({ reason: "token_issuer_disabled", issuer: subject.issuer });
  }
  const subjectFrom = origin.kind === "open" ? trust.agent(agent)?.subjectFrom : undefined;
  if (subjectFrom && !matchClaims(compiledOnce(subjectFrom), subject.claims, "member")) {
    throw new InvalidRequestError({ reason: "subject_from_mismatch", agent });
  }
}

/** Longest `sub` of a human, in bytes: OpenID Connect Core 1.0 §2 allows 255, and the database's indexes take 2,704. */
const SUBJECT_MAX_BYTES = 1_024;

/** The human of a verified token, if this agent may carry it. */
export function humanSubject(acting: ActingAgent, verified: Person): Subject {
  const { issuer, claims } = verified;
  if (Buffer.byteLength(verified.sub) > SUBJECT_MAX_BYTES)
    throw new RefusedToken({ reason: "token_claim_type", claim: "sub" });
  checkMayAct(claims["may_act"], acting.identities);
  const { subjectFrom } = acting.agent;
  if (subjectFrom && !matchClaims(compiledOnce(subjectFrom), claims, "member")) {
    throw new RefusedToken({ reason: "subject_from_mismatch", agent: acting.agent.name });
  }
  return {
    type: "human",
    issuer: issuer.name,
    sub: humanSub(issuer.name, verified.sub),
    claims,
    ...(verified.authTime === undefined ? {} : { authTime: verified.authTime }),
  };
}

/** A human's task ends at most `subject_max_age` after he signed in; when that is not known, it cannot be kept. */
export function humanDeadline(deps: Pick<StsDeps, "clock">, verified: Person, wanted: number): number {
  const maxAge = verified.issuer.subjectMaxAgeSeconds;
  if (maxAge === undefined) return wanted;
  const { authTime } = verified;
  if (authTime === undefined) throw new RefusedToken({ reason: "token_claim_missing", claim: "auth_time" });
  if (authTime + maxAge <= deps.clock.now()) throw new RefusedToken({ reason: "subject_too_old" });
  return Math.min(wanted, authTime + maxAge);
}

/** A hand-over token: ours, addressed to the acting agent and to nobody else (CONTRACT §2.5). */
async function byHandOver(deps: StsDeps, context: Context, token: string, type: string): Promise<Proved> {
  if (type === TOKEN_TYPE.idToken) throw new RefusedToken({ reason: "token_typ" });
  const claims = await readOwnToken(deps, token);
  const acting = await actingAgent(deps, context);
  if (claims.aud !== handOverAudience(deps.issuer, acting.agent.name)) {
    throw new RefusedToken({ reason: "subject_not_addressed", agent: acting.agent.name });
  }
  const made = await deps.places.find(claims.txn, claims.jti);
  // A once-only one is redeemed once; whoever redeemed it goes on by the task's handle.
  const replay = onceKeys(claims);
  if (made) return { acting, replay, origin: { kind: "continue", place: sameAgent(made, acting) } };
  const handOver = await deps.places.handOver(claims.jti);
  const from = handOver && (await deps.places.find(handOver.txn, handOver.node));
  if (!handOver || !from || handOver.txn !== claims.txn || handOver.aud !== claims.aud) {
    throw new RefusedToken({ reason: "token_unknown" });
  }
  const path = appendActor(from.node.path, acting.agent.name);
  return { acting, replay, origin: { kind: "redeem", from, handOver, path } };
}

/** A task handle: a name, not a secret; only an agent of the chain, authenticated afresh, can use it. */
async function byHandle(deps: StsDeps, context: Context, handle: string): Promise<Proved> {
  const match = /^([0-9A-HJKMNP-TV-Z]{26})(?:\.([0-9A-HJKMNP-TV-Z]{26}))?$/.exec(handle);
  const acting = await actingAgent(deps, context);
  const txn = match?.[1];
  if (txn === undefined) throw new RefusedToken({ reason: "task_unknown" });
  const node = match?.[2];
  if (node !== undefined) {
    const place = await deps.places.find(txn, node);
    if (!place) throw new RefusedToken({ reason: "node_unknown" });
    return { acting, origin: { kind: "continue", place: sameAgent(place, acting) } };
  }
  const [place, another] = await deps.places.ofAgent(txn, acting.agent.name);
  if (!place) throw new RefusedToken({ reason: "task_not_member" });
  if (another) throw new RefusedToken({ reason: "task_ambiguous" });
  return { acting, origin: { kind: "continue", place } };
}

function sameAgent(place: Place, acting: ActingAgent): Place {
  if (place.node.agent !== acting.agent.name) throw new RefusedToken({ reason: "task_not_member" });
  return place;
}

/** The audience of a hand-over token. */
export function handOverAudience(issuer: string, agent: string): string {
  return `${issuer}/agents/${agent}`;
}
