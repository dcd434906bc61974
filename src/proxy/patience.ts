import type { WaitEnd } from "../approvals/waiting.ts";
import { deathKeys } from "../core/kill/keys.ts";
import { InvalidTokenError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { EpochSeconds } from "../core/time.ts";
import { checkLives } from "./check-lives.ts";
import { recordRefusal, refused, type ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";
import { ApprovalRequiredError } from "./exchange.ts";

/** A call that waits is answered at least this long before its token ends, so that the answer is read in time (CONTRACT §8). */
const MARGIN_SECONDS = 5;
/** Times that one call may wait for another approval after it was judged anew. */
const ROUNDS = 8;

/** A call that may wait, and for how long. */
export interface Patience {
  readonly call: ProxiedCall;
  /** Epoch seconds. */
  readonly until: EpochSeconds;
  /** Names by which the wait can be called off. */
  readonly names?: readonly string[];
  /** Calls back when the caller is gone; at once where he is. */
  readonly whenGone: (call: () => void) => void;
}

/** Until when a call may wait whose caller waits for so many seconds, or for as long as its token lets it. */
export function untilOf(deps: ProxyDeps, { holder }: ProxiedCall, seconds = Number.POSITIVE_INFINITY): EpochSeconds {
  return Math.min(deps.clock.now() + seconds, holder.token.claims.exp - MARGIN_SECONDS);
}

/**
 * Makes a call, waiting for its approval where it needs one. What was decided is no permission to go on: the call is judged
 * anew, as if it were made then.
 *
 * @param attempt makes it; also what it throws is thrown here
 * @throws {ApprovalRequiredError} not decided in time, or denied
 */
export async function patiently<T>(
  deps: ProxyDeps,
  patience: Patience,
  attempt: (call: ProxiedCall) => Promise<T>,
): Promise<T> {
  let { call } = patience;
  for (let round = 0; ; round++) {
    try {
      return await attempt(call);
    } catch (error) {
      const pending = pendingOf(error);
      if (round >= ROUNDS) throw pending;
      call = await waited(deps, patience, pending);
    }
  }
}

/** An approval that nobody has decided yet. @throws anything else */
export function pendingOf(error: unknown): ApprovalRequiredError {
  if (error instanceof ApprovalRequiredError && error.approval.status === "pending") return error;
  throw error;
}

/**
 * Waits until an approval is worth another look.
 *
 * @returns the call as it is to be made then: it has its place already, and is not counted again
 * @throws {ApprovalRequiredError} the same, where it is still not decided; recorded anew where its time is over (A-APP-06)
 * @throws {InvalidTokenError} killed, recorded; {TemporarilyUnavailableError} kills are not heard any more
 */
export async function waited(
  deps: ProxyDeps,
  { call, until, names = [], whenGone }: Patience,
  pending: ApprovalRequiredError,
): Promise<ProxiedCall> {
  const { approval } = pending;
  const sinceMs = deps.clock.monotonicMs();
  const how = await deps.waiting.ended({
    approval: approval.id,
    expiresAt: Math.floor(Date.parse(approval.expires_at) / 1_000),
    until,
    keys: [...call.holder.kill.keys, deathKeys.resource(call.resource.name)],
    epochs: [...call.holder.kill.epochs, null],
    names,
    whenGone,
  });
  if (how === "moved") {
    const { whenOver: _taken, ...again } = call;
    const seconds = Math.round((deps.clock.monotonicMs() - sinceMs) / 1_000);
    return { ...again, facts: { ...call.facts, waited: seconds } };
  }
  return await over(deps, { call, pending, how });
}

async function over(
  deps: ProxyDeps,
  { call, pending, how }: { call: ProxiedCall; pending: ApprovalRequiredError; how: Exclude<WaitEnd, "moved"> },
): Promise<never> {
  if (how === "killed") return await refused(deps, call, new InvalidTokenError({ reason: "killed" }));
  if (how === "fenced") throw new TemporarilyUnavailableError({ reason: "replica_fenced" });
  if (how === "expired") return await tooLate(deps, call, pending.approval);
  throw pending;
}

/** Refuses a call whose approval nobody gave in time. @throws {ApprovalRequiredError} recorded */
export async function tooLate(
  deps: ProxyDeps,
  call: ProxiedCall,
  approval: ApprovalRequiredError["approval"],
): Promise<never> {
  await checkLives(deps, call);
  const facts = { approval: approval.id, action: call.actions[0] };
  const decision = await recordRefusal(deps, call, { facts, reason: "approval_expired" });
  throw new ApprovalRequiredError(decision, { ...approval, status: "expired" });
}
