import assert from "node:assert/strict";
import { inspect } from "node:util";
import type { LeaseFacts, MintOrder, Upstream } from "../../src/broker/provider.ts";
import { ProviderError } from "../../src/broker/provider-error.ts";
import type { ProviderProblem } from "../../src/broker/provider-error.ts";
import { awsSettingsValue } from "../../src/broker/providers/aws-settings.ts";
import type { AwsSettings } from "../../src/broker/providers/aws-settings.ts";
import type { SecretText } from "../../src/broker/secret-text.ts";
import { createEgress } from "../../src/system/egress.ts";

export const ROLE = "arn:aws:iam::111122223333:role/agents/deploy";
export const BROKER = "arn:aws:iam::111122223333:user/ephor";
/** Long-lived keys; the secret one is a canary. */
export const KEYS = { id: "AKIACANARY0000000001", secret: "canary/Secret+Key/7f3a90c1d2e4b5a6978877665" };

/** Facts of a lease for a human, by way of a hand-over. */
export const LEASE: LeaseFacts = {
  id: "lease_01JDAWS0000000000000000001",
  resource: "aws-prod",
  agent: "ops-bot",
  owner: "dana@acme.example",
  path: ["triage-bot", "ops-bot"],
  sub: "okta|00u1|ab",
  txn: "01JDTXN0000000000000000001",
  jti: "01JDJTI0000000000000000001",
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  purpose: "clean up (old) snapshots & logs",
};

/** A secret's value as providers get it. */
export function secretText(text: string): SecretText {
  return { use: (fn) => fn(text) };
}

/** What the vault holds for the keys above. */
export const KEYS_SECRET = JSON.stringify({ access_key_id: KEYS.id, secret_access_key: KEYS.secret });

/** Settings as the trust file's reader would hand them over. */
export function awsSettings(changes: Record<string, unknown>): AwsSettings {
  return awsSettingsValue.parse({ role_arn: ROLE, region: "eu-west-1", ...changes });
}

/** An order of now for 59 seconds. */
export function awsOrder(
  settings: AwsSettings,
  changes: Partial<MintOrder<AwsSettings>> & { webIdentity?: Upstream["webIdentity"] } = {},
): MintOrder<AwsSettings> {
  const { webIdentity, ...rest } = changes;
  const issuedAt = Math.floor(Date.now() / 1000);
  return {
    settings,
    lease: LEASE,
    secrets: new Map([["aws-root", secretText(KEYS_SECRET)]]),
    policies: [],
    issuedAt,
    endsAt: issuedAt + 59,
    upstream: { egress: createEgress(), ...(webIdentity !== undefined && { webIdentity }) },
    ...rest,
  };
}

/** That a mint fails so, and that nothing reachable from the error holds a canary or a word of the upstream. */
export async function assertProblem(
  minting: Promise<unknown>,
  problem: ProviderProblem,
  o: { code?: string; canaries?: readonly string[] } = {},
): Promise<void> {
  await assert.rejects(minting, (error) => {
    assert.ok(error instanceof ProviderError, String(error));
    assert.deepEqual([error.problem, error.code], [problem, o.code]);
    const shown = inspect(error, { depth: 20, showHidden: true });
    for (const canary of [KEYS.secret, KEYS.id, "CANARY", ...(o.canaries ?? [])]) {
      assert.ok(!shown.includes(canary), "the error shows a canary");
    }
    return true;
  });
}
