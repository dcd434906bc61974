import type { ProxiedCall } from "../decided.ts";
import { ApprovalRequiredError, type ProxiedAnswer } from "../exchange.ts";
import { patiently, tooLate, untilOf, waited, type Patience } from "../patience.ts";
import { waitPreferred } from "../prefer.ts";
import { askingText, callOff, elicited, waitNameOf } from "./elicited.ts";
import { isRpcId, type McpMessage } from "./message.ts";
import { CAPABILITIES_KEY, type Spoken } from "./revision.ts";
import { inputRequired, opensUrls, type Round } from "./round.ts";
import type { Session } from "./sessions.ts";
import type { McpDeps, Turn } from "./turn.ts";

/** A message that may have to wait for an approval. */
export interface AwaitedCall {
  readonly turn: Turn;
  readonly message: McpMessage;
  readonly spoken: Spoken;
  /** The session as it was opened. */
  readonly opened: Session | undefined;
  readonly call: ProxiedCall;
  readonly round: Round | undefined;
}

type Attempt = (call: ProxiedCall) => Promise<ProxiedAnswer>;

/**
 * Makes a call, and where it needs an approval that nobody gave yet, has the client's human see to it where the client can
 * (URL elicitation), or waits for as long as the client prefers. What its human says to the client is no decision.
 *
 * @param attempt makes it, anew each time
 * @throws whatever `attempt` throws
 */
export async function awaited(deps: McpDeps, of: AwaitedCall, attempt: Attempt): Promise<ProxiedAnswer> {
  const { turn, message, call, round } = of;
  if (message.kind === "notification") await cancelled(deps, of);
  // A-APP-06: who comes back after its time is told so, before anybody is asked anew.
  if (round !== undefined && deps.clock.now() >= round.expiresAt) return await tooLate(deps, call, round.approval);
  try {
    return await attempt(call);
  } catch (error) {
    const isPending = error instanceof ApprovalRequiredError && error.approval.status === "pending";
    if (!isPending || message.kind !== "request") throw error;
    const prefer = turn.request.headers.find(([name]) => name.toLowerCase() === "prefer")?.[1];
    return await seenTo(deps, of, { attempt, pending: error, seconds: waitPreferred(prefer) });
  }
}

async function seenTo(
  deps: McpDeps,
  of: AwaitedCall,
  at: { attempt: Attempt; pending: ApprovalRequiredError; seconds: number | undefined },
): Promise<ProxiedAnswer> {
  const { turn, message, spoken, opened, call, round } = of;
  const { attempt, pending, seconds } = at;
  const { approval } = pending;
  const patience = { call, names: namesOf(of), whenGone: turn.request.whenGone };
  if (spoken.era === "modern" && opensUrls(message, CAPABILITIES_KEY)) {
    if (round?.approval.id !== approval.id) {
      const asked = { message, owner: turn.owner, approval, text: askingText(call, approval.id) };
      const answer = inputRequired(deps.sessions, asked);
      if (answer !== undefined) return answer;
    } else if (round.isLooking) return await afterWait(deps, { ...patience, until: untilOf(deps, call) }, at);
    throw pending;
  }
  if (spoken.era === "legacy" && opened?.declared.includes("elicitation/url") === true && takesEvents(turn))
    return elicited(deps, {
      turn,
      message,
      opened,
      patience: { ...patience, until: untilOf(deps, call) },
      attempt,
      pending,
    });
  if (seconds === undefined) throw pending;
  return await afterWait(deps, { ...patience, until: untilOf(deps, call, seconds) }, { attempt, pending });
}

async function afterWait(
  deps: McpDeps,
  patience: Patience,
  { attempt, pending }: { attempt: Attempt; pending: ApprovalRequiredError },
): Promise<ProxiedAnswer> {
  const call = await waited(deps, patience, pending);
  return await patiently(deps, { ...patience, call }, attempt);
}

function takesEvents({ request }: Turn): boolean {
  return request.headers.some(
    ([name, value]) => name.toLowerCase() === "accept" && value.toLowerCase().includes("text/event-stream"),
  );
}

/** By which the wait of a call in a session can be called off, from any replica. */
function namesOf({ turn, message, opened }: AwaitedCall): string[] {
  if (opened === undefined || message.kind !== "request") return [];
  return [waitNameOf(turn.owner, opened, { request: message.id })];
}

/** A client that cancels a call does not want it made when it is approved (MCP 2025-11-25, cancellation). */
async function cancelled(deps: McpDeps, { turn, message, opened, call }: AwaitedCall): Promise<void> {
  const id = message.method === "notifications/cancelled" ? message.params?.["requestId"] : undefined;
  if (opened !== undefined && isRpcId(id)) await callOff(deps, call, waitNameOf(turn.owner, opened, { request: id }));
}
