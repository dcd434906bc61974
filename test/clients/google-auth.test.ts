import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ExternalAccountClient } from "google-auth-library";
import { decodeJwt } from "jose";
import { runningClock } from "../support/hand-clock.ts";
import { JWT_TYPE, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after }, { clock: runningClock() });
const folder = await mkdtemp(join(tmpdir(), "ephor-google-"));
after(() => rm(folder, { recursive: true, force: true }));
const file = join(folder, "token");

type ExternalAccount = NonNullable<ReturnType<typeof ExternalAccountClient.fromJSON>>;

/** What a person would write as credential configuration, with us as the token service. */
const account = (scope: string, more: { audience?: string; credential_source?: object } = {}): ExternalAccount => {
  const client = ExternalAccountClient.fromJSON({
    type: "external_account",
    audience: BILLING,
    subject_token_type: JWT_TYPE,
    token_url: `${w.server.issuer}/token`,
    credential_source: { file },
    ...more,
  } as never);
  assert.ok(client);
  client.scopes = scope;
  return client;
};
const tokenOf = async (client: ExternalAccount): Promise<Record<string, unknown>> => {
  const { token } = await client.getAccessToken();
  return decodeJwt(token ?? "");
};
/** The status and the error of the answer that the library stumbled over. */
const refusal = async (client: ExternalAccount): Promise<string> => {
  const error = await client.getAccessToken().then(
    () => assert.fail("a token was issued"),
    (thrown: unknown) => thrown as Error,
  );
  return error.message;
};

test("google-auth-library exchanges the workload's token from a file, with no client authentication, by audience", async () => {
  await writeFile(file, w.workload("release-bot"));
  const claims = await tokenOf(account("billing:read_invoice"));
  assert.equal(claims["aud"], BILLING);
  assert.equal(claims["sub"], "agent|release-bot");
  assert.equal(claims["scope"], "billing:read_invoice");
});

test("google-auth-library takes a resource's name for audience too", async () => {
  await writeFile(file, w.workload("release-bot"));
  assert.equal((await tokenOf(account("billing", { audience: "billing" })))["aud"], BILLING);
});

test("google-auth-library asks again for every call, our tokens being shorter than its margin: each is one of its own", async () => {
  await writeFile(file, w.workload("release-bot"));
  const client = account("billing");
  const [one, two] = [await tokenOf(client), await tokenOf(client)];
  assert.notEqual(one["jti"], two["jti"]);
  assert.equal(one["txn"], two["txn"]);
});

test("google-auth-library takes the subject token from a local URL as well", async (t) => {
  const source = createServer((_, response) =>
    response.end(JSON.stringify({ access_token: w.workload("release-bot") })),
  );
  t.after(() => source.close());
  await new Promise<void>((resolve) => source.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(source.address() as AddressInfo).port}/token`;
  const credential_source = { url, format: { type: "json", subject_token_field_name: "access_token" } };
  assert.equal((await tokenOf(account("billing", { credential_source })))["sub"], "agent|release-bot");
});

test("google-auth-library shows our refusals: a scope that is not granted, a token of nobody, an audience of Google's own", async () => {
  await writeFile(file, w.workload("release-bot"));
  assert.match(await refusal(account("billing:refund")), /invalid_scope/);
  const pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x";
  assert.match(await refusal(account("billing", { audience: pool })), /invalid_target/);
  await writeFile(file, w.workload("unheard-of"));
  assert.match(await refusal(account("billing")), /invalid_request/);
});
