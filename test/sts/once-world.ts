/** A world whose trust has once-only grants, and the words for using their tokens. */
import assert from "node:assert/strict";
import { chainWorld, BILLING, type ChainWorld } from "../attacks/chain-world.ts";
import type { Cleanup } from "../support/database.ts";
import { ASSERTION_TYPE, usualTrust, type Answer, type Form, type world } from "../support/world.ts";

export const REFUND = { resource: BILLING, scope: "billing:refund" };

/** Beside the usual trust: release-bot's refunds, its vends and its use of Ephor's own API are once-only. */
export const ONCE = `
resources:
  vault-key: { credential: { static: { secret: vault-key, disclose: true } } }
grants:
  - { name: refunds, agent: release-bot, resource: billing, actions: [refund], once: true }
  - { name: vends, agent: release-bot, resource: vault-key, actions: [vend], residual: unlimited, once: true }
  - { name: reads, agent: release-bot, resource: ephor, actions: [read], once: true }
  - { name: writes, agent: triage-bot, resource: ledger, actions: [write], on_behalf_of: { issuer: okta }, once: true }
`;

/** A world with once-only grants. */
export interface OnceWorld extends ChainWorld {
  /** A once-only token of release-bot for refunds at billing. */
  once(form?: Form, headers?: Record<string, string>): Promise<string>;
  /** Billing uses a token. */
  consume(token: string): Promise<Answer>;
  /** The agent billing-svc asks, as the introspection client of `ledger`. */
  asLedger(token: string, form?: Form): Promise<Answer>;
  /** Decision and reason of what was recorded about a token by this type, oldest first. */
  recorded(type: string, token: string): Promise<readonly string[]>;
  /** Decision and reason of the newest event of this type. */
  newest(type: string): Promise<string>;
}

/** Starts it. */
export async function onceWorld(t: Cleanup, options: Parameters<typeof world>[1] = {}): Promise<OnceWorld> {
  const w = await chainWorld(t, { trust: usualTrust, ...options });
  await w.apply(ONCE, "once.yaml");
  const sealed = await w.operator("PUT", "/v1/secrets/vault-key", { value: "s3cret" });
  assert.ok(sealed.status < 300, sealed.text);
  const said = (event: Record<string, unknown>): string =>
    [event["decision"], event["reason"]].filter(Boolean).join(" ");
  return {
    ...w,
    async once(form = {}, headers) {
      const answer = await w.post(
        "/token",
        {
          grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
          subject_token: w.workload("release-bot"),
          subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
          ...REFUND,
          ...form,
        },
        headers,
      );
      assert.equal(answer.status, 200, answer.text);
      return String(answer.body["access_token"]);
    },
    consume: (token) => w.introspect(token, { consume: "true" }),
    asLedger: (token, form = {}) =>
      w.post("/introspect", {
        token,
        client_assertion: w.workload("billing-svc"),
        client_assertion_type: ASSERTION_TYPE,
        ...form,
      }),
    async recorded(type, token) {
      const jti = claimsOf(token)["jti"] as string;
      // The column names a token only where something was granted.
      const events = await w.events({ type, limit: "100" });
      return events
        .filter((event) => (event["body"] as Record<string, unknown>)["jti"] === jti)
        .map(said)
        .reverse();
    },
    newest: async (type) => said((await w.events({ type, limit: "1" }))[0] ?? {}),
  };
}

/** The claims of a token. */
export function claimsOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as Record<string, unknown>;
}
