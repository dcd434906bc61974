import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import type { MintOrder } from "../../../src/broker/provider.ts";
import { ProviderError } from "../../../src/broker/provider-error.ts";
import { createStaticProvider } from "../../../src/broker/providers/static.ts";
import type { StaticSettings } from "../../../src/broker/providers/static.ts";
import { LEASE, secretText } from "../../support/aws-order.ts";
import { createEgress } from "../../../src/system/egress.ts";

const provider = createStaticProvider();
const CANARY = "canary-pässword-0f1e2d";
const never = new AbortController().signal;

function order(settings: StaticSettings, secrets: Record<string, string>): MintOrder<StaticSettings> {
  return {
    settings,
    lease: LEASE,
    secrets: new Map(Object.entries(secrets).map(([name, text]) => [name, secretText(text)])),
    policies: [],
    issuedAt: 1_795_348_800,
    endsAt: 1_795_348_859,
    upstream: { egress: createEgress() },
  };
}

test("static hands out the value of its secret, and the user name where there is one", async () => {
  const plain = provider.settings.parse({ secret: "crm-key", disclose: true });
  assert.deepEqual(provider.secrets(plain), ["crm-key"]);
  assert.deepEqual(await provider.mint(order(plain, { "crm-key": CANARY }), never), {
    credential: { value: CANARY },
    handle: {},
    marks: [],
  });
  const named = provider.settings.parse({ secret: "crm-key", disclose: true, username: "svc@acme.example" });
  const { credential } = await provider.mint(order(named, { "crm-key": CANARY }), never);
  assert.deepEqual(credential, { value: CANARY, username: "svc@acme.example" });
});

test("static says that nothing ends what it disclosed", () => {
  const settings = provider.settings.parse({ secret: "crm-key", disclose: true });
  assert.equal(provider.residualSeconds(settings), Number.POSITIVE_INFINITY);
  assert.equal(provider.destroy, undefined);
});

test("static is refused without `disclose: true`, and with a key that it does not know", () => {
  const refused = [
    { secret: "crm-key" },
    { secret: "crm-key", disclose: false },
    { secret: "crm-key", disclose: "true" },
    { disclose: true },
    { secret: "Crm Key", disclose: true },
    { secret: "crm-key", disclose: true, user: "x" },
    { secret: "crm-key", disclose: true, username: "a\nb" },
  ];
  for (const settings of refused) assert.ok(!provider.settings.safeParse(settings).success, inspect(settings));
});

test("static refuses a secret that is empty or was not opened", async () => {
  const settings = provider.settings.parse({ secret: "crm-key", disclose: true });
  for (const secrets of [{}, { "crm-key": "" }, { other: CANARY }]) {
    await assert.rejects(provider.mint(order(settings, secrets), never), (error) => {
      assert.ok(error instanceof ProviderError && !inspect(error, { depth: 9 }).includes(CANARY));
      return error.problem === "secret_malformed";
    });
  }
});
