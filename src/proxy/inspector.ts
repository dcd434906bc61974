import { createHmac } from "node:crypto";
import { z } from "zod";
import { JsonError, readJson } from "../core/token/json.ts";
import type { InspectRule } from "../core/trust/inspect-schema.ts";
import { EgressError } from "../system/egress-error.ts";
import { randomToken } from "../system/random.ts";
import type { ProxyDeps } from "./deps.ts";

/** Of an inspector's answer: a verdict and some places. */
const ANSWER_BYTES = 64 * 1024;
const MAX_REPLACED = 256;

/** One value that is replaced by another. */
export interface Replacement {
  /** JSON Pointer into what was sent: its first step is the member that was judged. */
  readonly pointer: string;
  readonly steps: readonly string[];
  readonly value: string | number | boolean | null;
}

/** What an inspector said; `failed`: nothing that counts, and why in one of our own words. */
export type Verdict =
  | { readonly kind: "allow" }
  | { readonly kind: "redact"; readonly replace: readonly Replacement[] }
  | { readonly kind: "refuse"; readonly why: string | undefined }
  | { readonly kind: "failed"; readonly problem: string };

const reason = z.string().max(500).optional();
const answerShape = z.discriminatedUnion("verdict", [
  z.strictObject({ verdict: z.literal("allow"), reason }),
  z.strictObject({ verdict: z.literal("refuse"), reason }),
  z.strictObject({
    verdict: z.literal("redact"),
    reason,
    replace: z
      .array(
        z.strictObject({
          path: z.string().regex(/^(?:\/(?:[^/~]|~[01])*)+$/),
          value: z.union([z.string(), z.number(), z.boolean(), z.null()]),
        }),
      )
      .min(1)
      .max(MAX_REPLACED),
  }),
]);

/**
 * Asks an inspector, once. What is no verdict of its own is a failure: no answer in time, another status than 200, or what cannot
 * be read.
 *
 * @param at.key signs the request (Standard Webhooks)
 * @param at.signal ends it
 */
export async function askInspector(
  deps: Pick<ProxyDeps, "egress" | "clock">,
  rule: InspectRule,
  at: { key: string; body: string; signal: AbortSignal },
): Promise<Verdict> {
  const { key, body, signal } = at;
  try {
    const answer = await deps.egress.send({
      method: "POST",
      url: rule.url,
      headers: {
        "content-type": "application/json",
        accept: "application/json",
        ...signatureHeaders(key, { body, now: deps.clock.now() }),
      },
      body,
      internal: rule.internal,
      maxBytes: ANSWER_BYTES,
      timeoutMs: rule.timeoutMs,
      signal,
    });
    return answer.status === 200 ? read(answer.body) : { kind: "failed", problem: `status ${answer.status}` };
  } catch (error) {
    if (error instanceof EgressError) return { kind: "failed", problem: error.kind };
    throw error;
  }
}

/** @see Standard Webhooks 1.0, "Signature scheme": HMAC-SHA256 over id, timestamp and body */
function signatureHeaders(key: string, { body, now }: { body: string; now: number }): Record<string, string> {
  const id = `msg_${randomToken(16)}`;
  const bytes = key.startsWith("whsec_") ? Buffer.from(key.slice("whsec_".length), "base64") : Buffer.from(key, "utf8");
  const signature = createHmac("sha256", bytes).update(`${id}.${now}.${body}`, "utf8").digest("base64");
  return { "webhook-id": id, "webhook-timestamp": String(now), "webhook-signature": `v1,${signature}` };
}

function read(bytes: Uint8Array): Verdict {
  let value: unknown;
  try {
    value = readJson(bytes);
  } catch (error) {
    if (error instanceof JsonError) return { kind: "failed", problem: "answer" };
    throw error;
  }
  const parsed = answerShape.safeParse(value);
  if (!parsed.success) return { kind: "failed", problem: "answer" };
  const said = parsed.data;
  if (said.verdict === "refuse") return { kind: "refuse", why: said.reason?.slice(0, 200) };
  if (said.verdict === "allow") return { kind: "allow" };
  return {
    kind: "redact",
    replace: said.replace.map(({ path, value: to }) => ({ pointer: path, steps: stepsOf(path), value: to })),
  };
}

function stepsOf(pointer: string): string[] {
  return pointer
    .slice(1)
    .split("/")
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}

const INDEX = /^(?:0|[1-9]\d{0,8})$/;

/** Whether steps lead to a value that is there: nothing can be added. */
export function leadsTo(value: unknown, steps: readonly string[]): boolean {
  let at = value;
  for (const step of steps) {
    if (Array.isArray(at) ? !INDEX.test(step) || Number(step) >= at.length : !isObject(at) || !Object.hasOwn(at, step))
      return false;
    at = (at as Record<string, unknown>)[step];
  }
  return true;
}

/**
 * The value with some of its values replaced, in order.
 *
 * @returns undefined where one of them is not there
 */
export function replacedIn(value: unknown, replace: readonly Replacement[]): unknown {
  // Null as its own sort of nothing, so that a whole value can become null.
  const whole = { value: JSON.parse(JSON.stringify(value ?? null)) as unknown };
  for (const { steps, value: to } of replace) {
    if (!leadsTo(whole.value, steps)) return undefined;
    let at: Record<string, unknown> = whole;
    let name = "value";
    for (const step of steps) {
      at = at[name] as Record<string, unknown>;
      name = step;
    }
    at[name] = to;
  }
  return whole.value;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
