import assert from "node:assert/strict";
import { test } from "node:test";
import { readTrustObject } from "../../../src/core/trust/schema.ts";
import { indexOf, ISSUER_URL } from "./objects.ts";

const problems = (raw: unknown): string[] => {
  const reading = readTrustObject("channels", "payments", raw, { issuerUrl: ISSUER_URL, at: [] });
  return reading.ok ? [] : reading.problems.map(({ path, what }) => `${path.join(".")} ${what}`.trim());
};

const SLACK = { channel: "C0123ABCD", token: "slack-bot-token", signing_secret: "slack-signing" };
const HOOK = { url: "https://desk.acme.example/in", secret: "desk-hmac" };

test("a channel is one of slack, teams and webhook; its secrets are names in the vault", () => {
  const trust = indexOf({
    channels: {
      payments: { slack: SLACK },
      gov: { slack: { ...SLACK, api: "https://slack-gov.com/api/" } },
      ops: { teams: { webhook: "https://acme.example/workflows/1?api-version=1", secret: "teams-hmac" } },
      told: { teams: { webhook: { secret: "teams-url" } } },
      desk: { webhook: { ...HOOK, operators: ["dana"] }, internal: true },
    },
    operators: { dana: { slack: { team: "T1234", user: "U1234" } } },
  });
  assert.deepEqual(trust.channel("payments"), {
    name: "payments",
    internal: false,
    kind: "slack",
    channel: "C0123ABCD",
    token: "slack-bot-token",
    signingSecret: "slack-signing",
    api: "https://slack.com/api",
  });
  const gov = trust.channel("gov");
  assert.equal(gov?.kind === "slack" && gov.api, "https://slack-gov.com/api");
  assert.equal(trust.channel("told")?.signingSecret, undefined);
  const desk = trust.channel("desk");
  assert.deepEqual(desk?.kind === "webhook" && [desk.internal, desk.operators], [true, ["dana"]]);
  assert.deepEqual(
    trust.channels().map(({ name }) => name),
    ["desk", "gov", "ops", "payments", "told"],
  );
  trust.apply({
    version: 2,
    deletes: [{ kind: "channels", name: "gov" }],
    upserts: { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [] },
  });
  assert.equal(trust.channel("gov"), undefined);
});

test("a channel of no kind, of two, with plain http, a password in its address, or something unknown in it is refused", () => {
  assert.deepEqual(problems({ slack: SLACK }), []);
  assert.deepEqual(problems({}), ["is of no kind"]);
  assert.deepEqual(problems({ slack: SLACK, webhook: HOOK }), ["is of several kinds"]);
  assert.deepEqual(problems({ webhook: { ...HOOK, url: "http://desk.acme.example/in" } }), [
    "webhook.url must be https",
  ]);
  assert.deepEqual(problems({ webhook: { ...HOOK, url: "http://10.0.0.1/in" }, internal: true }), [
    "webhook.url must be https",
  ]);
  assert.deepEqual(problems({ webhook: { ...HOOK, url: "http://127.0.0.1:8080/in" }, internal: true }), []);
  assert.deepEqual(problems({ slack: { ...SLACK, api: "http://127.0.0.1/api" } }), ["slack.api must be https"]);
  assert.equal(problems({ webhook: { ...HOOK, url: "https://u:p@desk.acme.example/in" } }).length, 1);
  assert.equal(problems({ slack: { ...SLACK, channel: "#payments" } }).length, 1);
  assert.equal(problems({ slack: { ...SLACK, token: "xoxb-A-TOKEN" } }).length, 1, "a token itself is no name");
  assert.equal(problems({ webhook: { ...HOOK, operators: [] } }).length, 1);
  assert.equal(problems({ webhook: { ...HOOK, operators: ["dana", "dana"] } }).length, 1);
  assert.equal(problems({ webhook: { ...HOOK, token: "x" } }).length, 1);
  assert.equal(problems({ teams: {} }).length, 1);
});
