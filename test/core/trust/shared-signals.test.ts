/** The trust file's `shared_signals`: what it means, and what is refused where (CONTRACT §4). */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Issuer } from "../../../src/core/trust/model.ts";
import { readTrustFile } from "../../../src/core/trust/schema.ts";

const STREAM = "https://sts.acme.example/ssf";
const OKTA = { url: "https://acme.okta.example", audience: "api://ephor", identifies: "humans" };
const read = (shared: unknown, issuer: object = OKTA): ReturnType<typeof readTrustFile> =>
  readTrustFile({ issuers: { okta: { ...issuer, shared_signals: shared } } }, "https://sts.acme.example");

function problems(shared: unknown, issuer?: object): string[] {
  const reading = read(shared, issuer);
  assert.ok(!reading.ok, "it was accepted");
  for (const { mend } of reading.problems) assert.ok(mend !== "" && !mend.startsWith("see the example"), mend);
  return reading.problems.map(({ path, what }) => `${path.slice(2).join(".")} ${what}`);
}

test("an audience is enough: events of the issuer itself, about its own people", () => {
  const reading = read({ audience: STREAM });
  assert.ok(reading.ok);
  assert.deepEqual((reading.value[0]?.model as Issuer | undefined)?.sharedSignals, {
    audience: [STREAM],
    transmitter: OKTA.url,
    subjectIssuers: [OKTA.url],
    on: {},
  });
});

test("everything that can be said is understood, and kept as it was written", () => {
  const written = {
    audience: [STREAM, "urn:second"],
    transmitter: "https://ssf.okta.example/tenant",
    jwks_uri: "https://ssf.okta.example/keys?x=1",
    algorithms: ["ES256"],
    subject_issuers: "https://alias.okta.example",
    secret_hash: `sha256:${"0a".repeat(32)}`,
    on: { "device-compliance-change": "kill", "session-revoked": "ignore" },
  };
  const reading = read(written);
  assert.ok(reading.ok);
  assert.deepEqual((reading.value[0]?.model as Issuer | undefined)?.sharedSignals, {
    audience: written.audience,
    transmitter: written.transmitter,
    jwksUri: written.jwks_uri,
    algorithms: ["ES256"],
    subjectIssuers: [OKTA.url, "https://alias.okta.example"],
    secretHash: written.secret_hash,
    on: written.on,
  });
  assert.deepEqual(reading.value[0]?.body["shared_signals"], written);
});

test("what is wrong is refused where it stands", () => {
  assert.deepEqual(problems({}), ["shared_signals.audience is missing"]);
  assert.deepEqual(problems({ audience: STREAM, delivery: "poll" }), ["shared_signals.delivery is not known here"]);
  assert.deepEqual(problems({ audience: STREAM, on: { "account-enabled": "kill" } }), [
    "shared_signals.on.account-enabled is not known here",
  ]);
  assert.deepEqual(problems({ audience: STREAM, on: { "session-revoked": "restore" } }), [
    "shared_signals.on.session-revoked must be kill or sessions or ignore",
  ]);
  assert.deepEqual(problems({ audience: STREAM, algorithms: ["HS256"] }).length, 1);
  assert.deepEqual(problems({ audience: STREAM, secret_hash: "secret" }), ["shared_signals.secret_hash is malformed"]);
  const jwks = { keys: [{ kty: "OKP", crv: "Ed25519", x: "A".repeat(43) }] };
  assert.deepEqual(problems({ audience: STREAM, jwks, jwks_uri: "https://x.example" }), [
    "shared_signals.jwks_uri and jwks exclude each other",
  ]);
  assert.deepEqual(problems({ audience: STREAM, transmitter: "http://x.example" }), [
    "shared_signals.transmitter must be https",
  ]);
  assert.deepEqual(problems({ audience: STREAM, jwks_uri: "http://127.0.0.1/keys" }), [
    "shared_signals.jwks_uri must be https",
  ]);
  assert.ok(read({ audience: STREAM, jwks_uri: "http://127.0.0.1/keys" }, { ...OKTA, internal: true }).ok);
});

test("workloads are no persons whom an IdP disables", () => {
  assert.deepEqual(problems({ audience: STREAM }, { ...OKTA, identifies: "workloads" }), [
    "shared_signals is for issuers that identify humans",
  ]);
});
