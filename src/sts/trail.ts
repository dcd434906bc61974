import type { EventType, EventValue } from "../audit/event.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { ActingAgent } from "./acting-agent.ts";
import type { StsDeps } from "./deps.ts";

/** What is known about a request so far, so that a refusal at any step is recorded with it. */
export interface Trail {
  readonly type: EventType;
  readonly requestId: string;
  readonly remoteAddress: string;
  traceId?: string | undefined;
  acting?: ActingAgent;
  sub?: string;
  txn?: string;
  resource?: string;
  scope?: string;
  grantType?: string;
  /** Set when the gate recorded the refusal itself. */
  recorded?: boolean;
}

/**
 * Records a refusal: an event of its own once an agent was authenticated, counted before that (A-AUD-07).
 *
 * @throws {DatabaseUnreachableError} when it cannot be recorded, so that the answer is a 503
 */
export async function recordRefusal(
  deps: StsDeps,
  trail: Trail,
  reason: Reason,
  facts: Record<string, EventValue>,
): Promise<void> {
  if (trail.recorded) return;
  const draft = {
    type: trail.type,
    agent: trail.acting?.agent.name,
    sub: trail.sub,
    txn: trail.txn,
    resource: trail.resource,
    traceId: trail.traceId,
    requestId: trail.requestId,
    facts: { grant_type: trail.grantType, scope: trail.scope, ...facts },
  };
  if (trail.acting) await deps.recorder.refused(draft, reason);
  else await deps.noise.refused(draft, reason, trail.remoteAddress);
}
