import { z } from "zod";
import type { ApprovalView } from "../api/approvals.ts";
import { reasonShape } from "../api/scalars.ts";
import { JsonError, readJson } from "../core/token/json.ts";
import { NAME_PATTERN } from "../core/trust/values.ts";
import type { EgressResponse } from "../system/egress.ts";
import type { Outgoing, Sent } from "./outgoing.ts";
import { APPROVAL_ID } from "../approvals/approval.ts";

/** Bytes of a body; above, arguments and call are left out, and `uri` leads to them. */
const MAX_BODY_BYTES = 64 * 1024;

/**
 * An approval as it stands, as an event of Standard Webhooks, unsigned.
 *
 * @param time RFC 3339; when it came to stand so is not known better than when it was seen
 */
export function webhookMessage(url: string, of: ApprovalView, time: string): Outgoing {
  const event = { type: `approval.${of.status}`, timestamp: time };
  const whole = asciiJson({ ...event, data: { ...of, truncated: false } });
  const { call: _call, arguments: _arguments, ...facts } = of;
  const body = whole.length <= MAX_BODY_BYTES ? whole : asciiJson({ ...event, data: { ...facts, truncated: true } });
  return { url, headers: { "content-type": "application/json", accept: "application/json" }, body };
}

/** 2xx is taken (Standard Webhooks, "Operational considerations"); 410 and what says that the message is bad is final. */
export function webhookOutcome({ status }: EgressResponse, afterMs: number): Sent {
  if (status >= 200 && status < 300) return { kind: "sent", place: undefined };
  const isFinal = [400, 410, 413, 415, 422].includes(status);
  return isFinal
    ? { kind: "refused", problem: `status ${status}` }
    : { kind: "retry", problem: `status ${status}`, afterMs };
}

const decisionShape = z.strictObject({
  approval: z.string().regex(APPROVAL_ID),
  decision: z.enum(["approve", "deny"]),
  reason: reasonShape,
  operator: z.string().regex(NAME_PATTERN),
});

/** What a webhook says in an operator's name. */
export type WebhookWord = z.output<typeof decisionShape>;

/**
 * Reads the signed body of a decision.
 *
 * @returns undefined for what is none
 */
export function readWebhookWord(body: string): WebhookWord | undefined {
  try {
    const read = decisionShape.safeParse(readJson(Buffer.from(body, "latin1")));
    return read.success ? read.data : undefined;
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
}

/** JSON of which every character is a byte, so that what is signed is what is sent. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
