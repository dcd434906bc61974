import assert from "node:assert/strict";
import { inspect } from "node:util";
import { ProviderError } from "../../../src/broker/provider-error.ts";
import type { LeaseFacts, LeaseHandle, Minted, MintOrder } from "../../../src/broker/provider.ts";
import { createOAuthProvider } from "../../../src/broker/providers/oauth.ts";
import type { OAuthSettings } from "../../../src/broker/providers/oauth-settings.ts";
import { secretText } from "../../../src/broker/secret-text.ts";
import type { Egress } from "../../../src/system/egress.ts";

/** When leases of these tests begin. */
export const NOW = Date.UTC(2026, 10, 22, 12) / 1000;

/** Seconds between asking and the answer's arrival. */
export const ANSWER_SECONDS = 2;

/** Everything that must not be in an error holds this. */
export const CANARY = "canary";

/** The provider, whose clock is at the arrival of an answer. */
export const provider = createOAuthProvider({ now: () => NOW + ANSWER_SECONDS });

/** Whom tests vend for. */
export const LEASE: LeaseFacts = {
  id: "lease_01JD9Z0000000000000000000",
  resource: "crm",
  agent: "triage-bot",
  owner: "sam@acme.example",
  path: ["triage-bot"],
  sub: "okta|00u1",
  txn: "01JD9Z0000000000000000000A",
  jti: "01JD9Z0000000000000000000B",
};

/** How one order differs from a plain one. */
export interface Ask {
  readonly secrets?: Readonly<Record<string, string>>;
  readonly policies?: readonly string[];
  readonly sub?: string;
  readonly signal?: AbortSignal;
  readonly webIdentity?: (audience: string) => Promise<string>;
}

/** Mints and ends by settings as the trust file has them. */
export function stage(egress: Egress) {
  const secretsOf = (secrets: Ask["secrets"] = {}) =>
    new Map(Object.entries(secrets).map(([name, text]) => [name, secretText(text)]));
  const upstreamOf = ({ webIdentity }: Ask) => ({ egress, ...(webIdentity !== undefined && { webIdentity }) });
  return {
    async mint(settings: object, ask: Ask = {}): Promise<Minted> {
      const order: MintOrder<OAuthSettings> = {
        settings: provider.settings.parse(settings),
        lease: { ...LEASE, sub: ask.sub ?? LEASE.sub },
        secrets: secretsOf(ask.secrets),
        policies: ask.policies ?? [],
        issuedAt: NOW,
        endsAt: NOW + 45,
        upstream: upstreamOf(ask),
      };
      return await provider.mint(order, ask.signal ?? new AbortController().signal);
    },
    async destroy(settings: object, handle: LeaseHandle<OAuthSettings>["handle"], ask: Ask = {}): Promise<void> {
      const lease: LeaseHandle<OAuthSettings> = {
        settings: provider.settings.parse(settings),
        lease: LEASE,
        secrets: secretsOf(ask.secrets),
        handle,
        upstream: upstreamOf(ask),
      };
      await provider.destroy?.(lease, new AbortController().signal);
    },
  };
}

/** @returns the error, whose every part was searched for what was secret or the upstream's */
export async function failure(promise: Promise<unknown>, problem: string, code?: string): Promise<ProviderError> {
  const error = await promise.then(
    () => assert.fail("it minted"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ProviderError, String(error));
  assert.deepEqual([error.problem, error.code], [problem, code]);
  const shown = inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error);
  assert.ok(!/canary|PRIVATE KEY|\beyJ/.test(shown), shown);
  return error;
}
