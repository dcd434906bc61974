import { ProblemError } from "../api/problem.ts";
import type { StoredApproval } from "../approvals/approval.ts";
import type { EventDraft } from "../audit/event.ts";
import { OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Operator } from "../core/trust/model.ts";
import type { AnySigned, HookDeps } from "./hooks.ts";
import { SIGNED_WITHIN_SECONDS } from "./signatures.ts";
import { messageAt, type StoredMessage } from "./store.ts";

/** A decision that somebody at a channel made. */
export interface HeardDecision {
  readonly operator: Operator;
  readonly approval: string;
  readonly isApproving: boolean;
  readonly reason: string;
  /** Whether it came from where the question was put. */
  readonly isFrom: (message: StoredMessage) => boolean;
  /** Whether the account that it came from still is that operator. */
  readonly isStill: (trust: TrustIndex) => boolean;
}

/** What came of it, to be told to whoever decided; or undefined: the same signed request came before. */
export type Heard =
  | { readonly done: StoredApproval }
  | { readonly refused: Reason | "conflict"; readonly text: string; readonly error: Error };

/** What a refusal of somebody at a signed channel is recorded as. */
export function heardEvent(
  { channel, request }: Pick<AnySigned, "channel" | "request">,
  facts: EventDraft["facts"],
): EventDraft {
  const { requestId } = request;
  return { type: "approval.decide", requestId, facts: { channel: channel.name, via: channel.kind, ...facts } };
}

/** Decides in an operator's name, where the question was put to this channel, once. */
export async function decideHeard(deps: HookDeps, signed: AnySigned, what: HeardDecision): Promise<Heard | undefined> {
  const { channel, request } = signed;
  const { operator, approval: id, isApproving, reason } = what;
  const by = `operator:${operator.name}`;
  const message = await messageAt(deps.db, id, channel.name);
  if (message === undefined || !what.isFrom(message)) {
    const facts = { approval: id.slice(0, 64) };
    await deps.recorder.refused({ ...heardEvent(signed, facts), agent: by }, "hook_message_foreign");
    const text = "This was not asked here, or a newer message asks it. Nothing was decided.";
    return { refused: "hook_message_foreign", text, error: new ProblemError("not_found") };
  }
  if (!(await takeOnce(deps, signed, { by, approval: id, isApproving }))) return undefined;
  const decider = {
    kind: "person",
    operator: operator.name,
    sub: undefined,
    authTime: undefined,
    via: channel.kind,
    isStill: what.isStill,
  } as const;
  try {
    const done = await deps.approvals.decide({ id, decider, isApproving, reason, requestId: request.requestId });
    if (done !== undefined) return { done };
    return { refused: "conflict", text: TEXTS["conflict"] ?? "", error: new ProblemError("not_found") };
  } catch (error) {
    if (error instanceof TemporarilyUnavailableError) throw error;
    if (error instanceof OAuthError) return { refused: error.reason, text: TEXTS[error.reason] ?? NOTHING, error };
    if (error instanceof ProblemError) return { refused: "conflict", text: `${error.detail ?? NOTHING}`, error };
    throw error;
  }
}

const NOTHING = "Nothing was decided.";
const TEXTS: Readonly<Record<string, string>> = {
  approver_is_requester: "Nothing was decided: the call is made on your behalf, and whoever asks never approves.",
  approver_not_asked: "Nothing was decided: the grant asks somebody else.",
  approver_unproven:
    "Nothing was decided: your operator entry has no sign_in, so nobody can tell that you are not the human who asks.",
  role_missing: "Nothing was decided: you do not have the role approve.",
  sign_in_too_old:
    "Nothing was decided: what is asked on your own behalf is decided at the console, after a fresh sign-in.",
  conflict: "There is no such approval any more.",
};

/** The same signed request works once, over all replicas; recorded by the gate, also where it came before. */
async function takeOnce(
  { authorizer, trust, clock }: HookDeps,
  { channel, replayKey, request }: AnySigned,
  { by, approval, isApproving }: { by: string; approval: string; isApproving: boolean },
): Promise<boolean> {
  const result = await authorizer.authorize(() => {
    const trustVersion = trust().version;
    return {
      value: undefined,
      ask: {
        action: "hook.receive",
        target: approval,
        actor: by,
        trustVersion,
        kill: { keys: [], epochs: [] },
        replay: [{ key: replayKey, exp: clock.now() + 2 * SIGNED_WITHIN_SECONDS }],
        event: {
          type: "hook.receive",
          agent: by,
          requestId: request.requestId,
          facts: {
            channel: channel.name,
            approval,
            decision: isApproving ? "approve" : "deny",
            trust_version: trustVersion,
          },
        },
      },
    };
  });
  return result.outcome === "granted";
}
