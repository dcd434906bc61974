/** A receiver of Shared Signals as another product would have it: it checks each event by our published keys. */
import assert from "node:assert/strict";
import { createLocalJWKSet, jwtVerify } from "jose";
import { BILLING_SECRET, type Answer, type World } from "./world.ts";

export const SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
export const VERIFICATION = "https://schemas.openid.net/secevent/ssf/event-type/verification";
export const STREAM_UPDATED = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated";
export const PUSH = "urn:ietf:rfc:8935";
export const POLL = "urn:ietf:rfc:8936";
export const BILLING = "https://billing.acme.example";

/** The claims of a security event. */
export interface EventClaims {
  readonly iss: string;
  readonly aud: string;
  readonly jti: string;
  readonly iat: number;
  readonly txn?: string;
  readonly sub_id: Record<string, unknown>;
  readonly events: Record<string, Record<string, unknown>>;
}

/** Verifies a security event by the token keys; what a token has must not be there (SSF 1.0 §4.1). */
export async function eventClaims(w: World, set: string, audience: string): Promise<EventClaims> {
  const jwks = (await w.request("GET", "/.well-known/jwks.json")).body as never;
  const { payload } = await jwtVerify(set, createLocalJWKSet(jwks), {
    typ: "secevent+jwt",
    issuer: w.server.issuer,
    audience,
    currentDate: new Date(w.clock.nowMs()),
  });
  assert.ok(!("sub" in payload) && !("exp" in payload));
  assert.equal(Object.keys(payload["events"] as object).length, 1);
  return payload as unknown as EventClaims;
}

/** The resource `billing` by its secret. */
export const asBilling = (secret = BILLING_SECRET): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`billing:${secret}`).toString("base64")}`,
});

/** The resource `ledger` by the platform's token of its introspecting agent. */
export const asLedger = (w: World): Record<string, string> => ({
  authorization: `Bearer ${w.workload("billing-svc")}`,
});

/** An operator. */
export const asOperator = (w: World): Record<string, string> => ({ authorization: `Bearer ${w.operatorKey}` });

/** A stream that must come to be. */
export async function makeStream(
  w: World,
  headers: Record<string, string>,
  body: object = {},
): Promise<Answer["body"]> {
  const answer = await w.request("POST", "/ssf/stream", { headers, body });
  assert.equal(answer.status, 201, answer.text);
  return answer.body;
}

/** Polls without waiting. */
export async function poll(
  w: World,
  o: { stream: unknown; headers: Record<string, string>; url?: string; body?: object },
): Promise<{ sets: Record<string, string>; moreAvailable: boolean }> {
  const answer = await w.request("POST", `${o.url ?? ""}/ssf/poll/${String(o.stream)}`, {
    headers: o.headers,
    body: { returnImmediately: true, ...o.body },
  });
  assert.equal(answer.status, 200, answer.text);
  return answer.body as never;
}

/** Kills by an operator. */
export async function kill(w: World, order: object): Promise<string> {
  const answer = await w.operator("POST", "/v1/kill", { reason: "test", ...order });
  assert.equal(answer.status, 200, answer.text);
  return String(answer.body["id"]);
}

/** Looks again until it is so; fails after ten seconds. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (const until = performance.now() + 10_000; performance.now() < until;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new assert.AssertionError({ message: `it did not happen: ${what}` });
}
