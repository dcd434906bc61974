/** Shared Signals from an identity provider: a person disabled there loses their agents here (RFC 8935, CAEP, RISC). */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { after, test } from "node:test";
import { claimsOf, READ_INVOICE } from "../attacks/chain-world.ts";
import { badToken, eventOf, granted, refusedNow } from "../attacks/refusals.ts";
import { CAEP, PARTNER_SECRET, RISC, signalWorld, SSF } from "../support/signals.ts";
import type { Answer } from "../support/world.ts";

const w = await signalWorld(
  { after },
  { okta: ", max_token_age: 1h", signals: ", on: { device-compliance-change: kill, risk-level-change: sessions }" },
);
const other = await w.replica();

/** Two running chains of a person, on two agents. */
async function chains(sub: string): Promise<string[]> {
  const first = granted(await w.onBehalf("triage-bot", w.human(sub), READ_INVOICE));
  const second = granted(await w.onBehalf("summary-bot", w.human(sub), READ_INVOICE));
  assert.notEqual(claimsOf(first).txn, claimsOf(second).txn);
  return [first, second];
}
async function lives(tokens: readonly string[]): Promise<boolean[]> {
  return await Promise.all(
    tokens.map(async (token) => {
      const answer = await w.post(`${other.url}/introspect`, {
        token,
        client_id: "billing",
        client_secret: "billing-secret-0123456789abcdefghijklmnopqrstuv",
      });
      assert.equal(answer.status, 200, answer.text);
      return answer.body["active"] === true;
    }),
  );
}
const fresh = (sub: string): Promise<Answer> => w.onBehalf("triage-bot", w.human(sub), READ_INVOICE);
async function accepted(answer: Answer): Promise<void> {
  assert.equal(answer.status, 202, answer.text);
  assert.equal(answer.text, "");
}
async function recorded(
  answer: Answer,
): Promise<{ decision: string; agent: string | null; facts: Record<string, unknown> }> {
  const event = await eventOf(w, answer);
  return { ...event, facts: JSON.parse(event.body) as Record<string, unknown> };
}

for (const name of ["account-disabled", "account-purged"]) {
  test(`RISC ${name}: after the 202 the person's chains on two agents are dead on another replica, and nothing new starts; others live`, async () => {
    const [sub, beside] = [`${name}-1`, `${name}-2`];
    const [dead, living] = [await chains(sub), await chains(beside)];
    assert.deepEqual(await lives([...dead, ...living]), [true, true, true, true]);
    const answer = await w.push(w.event(`${RISC}${name}`, { sub }));
    await accepted(answer);
    assert.deepEqual(await lives([...dead, ...living]), [false, false, true, true]);
    await refusedNow(w, badToken("killed"), () => fresh(sub));
    granted(await fresh(beside));
    const { decision, agent, facts } = await recorded(answer);
    assert.deepEqual([decision, agent], ["granted", "transmitter:okta"]);
    const { type, event, transmitter, initiating_entity: by, why, sub: whom } = facts;
    assert.deepEqual(
      { type, event, transmitter, by, why, whom },
      {
        type: "kill",
        event: name,
        transmitter: "okta",
        by: "admin",
        why: `shared signals: ${name} from okta`,
        whom: `okta|${sub}`,
      },
    );
    assert.equal(typeof facts["set"], "string");
    const kills = (await w.operator("GET", "/v1/kills?limit=1")).body["items"] as Record<string, unknown>[];
    assert.deepEqual(kills[0]?.["targets"], [`subject:okta|${sub}`]);
    assert.equal(kills[0]?.["ends_at"], undefined);
    // An operator lifts it as any other kill; nothing issued before comes back.
    await w.operator("POST", "/v1/restore", { subject: `okta|${sub}`, reason: "test" });
    granted(await fresh(sub));
    assert.deepEqual(await lives(dead), [false, false]);
  });
}

test("a person whom nobody saw before is dead before he comes", async () => {
  await accepted(await w.push(w.event(`${RISC}account-disabled`, { sub: "never-seen" })));
  await refusedNow(w, badToken("killed"), () => fresh("never-seen"));
});

test("the same jti does nothing twice, on any replica; another one does", async () => {
  const token = w.event(`${RISC}account-disabled`, { sub: "twice" });
  await Promise.all([w.push(token), w.push(token, { url: other.url })]).then((both) => both.map(accepted));
  await w.operator("POST", "/v1/restore", { subject: "okta|twice", reason: "test" });
  await accepted(await w.push(token));
  await accepted(await w.push(token, { url: other.url }));
  granted(await fresh("twice"));
  const rows = await w.admin("select id from ephor.kills where keys @> array['subject:okta|twice']");
  assert.equal(rows.length, 1);
  await accepted(await w.push(w.event(`${RISC}account-disabled`, { sub: "twice" })));
  await refusedNow(w, badToken("killed"), () => fresh("twice"));
});

test("account-enabled lifts what this transmitter alone has done, and no operator's kill", async () => {
  const enable = (sub: string): Promise<Answer> => w.push(w.event(`${RISC}account-enabled`, { sub }));
  const disable = (sub: string): Promise<Answer> => w.push(w.event(`${RISC}account-disabled`, { sub }));
  const before = await chains("back");
  await accepted(await disable("back"));
  await refusedNow(w, badToken("killed"), () => fresh("back"));
  const lifted = await enable("back");
  await accepted(lifted);
  assert.equal((await recorded(lifted)).facts["type"], "restore");
  granted(await fresh("back"));
  assert.deepEqual(await lives(before), [false, false]);

  for (const operatorFirst of [true, false]) {
    const sub = `kept-${String(operatorFirst)}`;
    const byOperator = (): Promise<Answer> => w.kill({ subject: [`okta|${sub}`, "okta|another"] });
    if (operatorFirst) await byOperator();
    await accepted(await disable(sub));
    if (!operatorFirst) await byOperator();
    // A restore of one of two marks the operator's kill as restored, and the other still stands.
    await w.operator("POST", "/v1/restore", { subject: "okta|another", reason: "test" });
    const kept = await enable(sub);
    await accepted(kept);
    assert.equal((await recorded(kept)).facts["type"], "signal.receive");
    w.clock.advance(61);
    await refusedNow(w, badToken("killed"), () => fresh(sub));
  }
  // Of a person whom only an operator has killed.
  await w.kill({ subject: "okta|never-disabled" });
  await accepted(await enable("never-disabled"));
  w.clock.advance(61);
  await refusedNow(w, badToken("killed"), () => fresh("never-disabled"));
});

test("CAEP session-revoked: what runs dies, no token of that time opens anything again, a sign-in after it does", async () => {
  const sub = "signed-out";
  const before = w.human(sub);
  const [dead, beside] = [await chains(sub), await chains("stays")];
  const killed = await w.push(w.event(`${CAEP}session-revoked`, { sub }));
  await accepted(killed);
  assert.deepEqual(await lives([...dead, ...beside]), [false, false, true, true]);
  await refusedNow(w, badToken("killed"), () => w.onBehalf("triage-bot", before, READ_INVOICE));
  // max_token_age is an hour, and clocks may differ by half a minute, twice.
  w.clock.advance(3600 + 59);
  await refusedNow(w, badToken(["killed", "token_expired"]), () => w.onBehalf("triage-bot", before, READ_INVOICE));
  await refusedNow(w, badToken("killed"), () => fresh(sub));
  w.clock.advance(3);
  await refusedNow(w, badToken("token_expired"), () => w.onBehalf("triage-bot", before, READ_INVOICE));
  granted(await fresh(sub));
  assert.deepEqual(await lives(dead), [false, false]);
});

test("account-enabled within a session-revoked lifts the disabling, not the other", async () => {
  await accepted(await w.push(w.event(`${CAEP}session-revoked`, { sub: "both" })));
  await accepted(await w.push(w.event(`${RISC}account-disabled`, { sub: "both" })));
  await accepted(await w.push(w.event(`${RISC}account-enabled`, { sub: "both" })));
  w.clock.advance(61);
  await refusedNow(w, badToken("killed"), () => fresh("both"));
  w.clock.advance(3600);
  granted(await fresh("both"));
});

test("events have the effect that the entry chose, where they tell of something worse; the others are recorded", async () => {
  const cases: [string, Record<string, unknown>, string, string][] = [
    [
      `${CAEP}device-compliance-change`,
      { previous_status: "compliant", current_status: "not-compliant" },
      "kill",
      "kill",
    ],
    [
      `${CAEP}device-compliance-change`,
      { previous_status: "not-compliant", current_status: "compliant" },
      "signal.receive",
      "ignore",
    ],
    [`${CAEP}risk-level-change`, { current_level: "HIGH", principal: "USER" }, "kill", "sessions"],
    [`${CAEP}risk-level-change`, { current_level: "LOW", principal: "USER" }, "signal.receive", "ignore"],
    [`${CAEP}credential-change`, { credential_type: "password", change_type: "update" }, "signal.receive", "ignore"],
    [`${CAEP}token-claims-change`, { claims: { groups: [] } }, "signal.receive", "ignore"],
    [`${CAEP}assurance-level-change`, { change_direction: "decrease" }, "signal.receive", "ignore"],
    ["https://idp.example/event/unheard-of", {}, "signal.receive", "ignore"],
  ];
  for (const [i, [type, members, recordedAs, effect]] of cases.entries()) {
    const sub = `case-${i}`;
    const [token = ""] = await chains(sub);
    const answer = await w.push(w.event(type, { sub, members }));
    await accepted(answer);
    const { facts } = await recorded(answer);
    assert.deepEqual([facts["type"], facts["effect"]], [recordedAs, effect], type);
    assert.deepEqual(await lives([token]), [effect === "ignore"], type);
  }
});

test("a stream's own events are accepted and have no effect (SSF §7.1.4, §8.1.5)", async () => {
  for (const [name, members] of Object.entries({
    verification: { state: "x" },
    "stream-updated": { status: "paused" },
  })) {
    const claims = { sub_id: { format: "opaque", id: "stream-1" } };
    const answer = await w.push(w.event(`${SSF}${name}`, { claims, members }));
    await accepted(answer);
    assert.equal((await recorded(answer)).facts["event"], name);
  }
});

test("a complex subject's user is killed; a transmitter with a secret and metadata of its own speaks of its issuer's people", async (t) => {
  const complex = (iss: string, sub: string): Record<string, unknown> => ({
    sub_id: { format: "complex", user: { format: "iss_sub", iss, sub }, session: { format: "opaque", id: "s1" } },
  });
  const [token = ""] = await chains("complex");
  await accepted(await w.push(w.event(`${CAEP}session-revoked`, { claims: complex(w.humans.url, "complex") })));
  assert.deepEqual(await lives([token]), [false]);

  const metadata = createServer((req, res) => {
    const found = req.url === "/.well-known/ssf-configuration/tenant";
    const { port } = metadata.address() as AddressInfo;
    const issuer = `http://127.0.0.1:${port}/tenant`;
    res.writeHead(found ? 200 : 404, { "content-type": "application/json" });
    res.end(JSON.stringify({ issuer, jwks_uri: w.partner.jwksUri }));
  });
  metadata.listen(0, "127.0.0.1");
  await once(metadata, "listening");
  t.after(() => metadata.close());
  const transmitter = `http://127.0.0.1:${(metadata.address() as AddressInfo).port}/tenant`;
  await w.apply(
    `issuers:\n  far: { url: "https://far.example", audience: x, identifies: humans, internal: true, shared_signals: { audience: "urn:far", transmitter: "${transmitter}", subject_issuers: "https://alias.far.example" } }`,
    "far.yaml",
  );
  const far = (iss: string): string =>
    w.event(`${RISC}account-disabled`, {
      signer: w.partner,
      claims: { iss: transmitter, aud: ["urn:far", "urn:elsewhere"], sub_id: { format: "iss_sub", iss, sub: "f1" } },
    });
  for (const iss of ["https://far.example", "https://alias.far.example"])
    await accepted(await w.push(far(iss), { name: "far" }));
  const foreign = await w.push(far(transmitter), { name: "far" });
  assert.deepEqual([foreign.status, foreign.body["err"]], [400, "access_denied"]);

  const authorization = `Bearer ${PARTNER_SECRET}`;
  const event = w.event(`${RISC}account-disabled`, { signer: w.partner });
  const without = await w.push(event, { name: "partner" });
  assert.deepEqual([without.status, without.body["err"]], [400, "authentication_failed"]);
  await accepted(await w.push(event, { name: "partner", headers: { authorization } }));
});

test("metrics count by issuer, event and outcome", async () => {
  const { text } = await w.request("GET", "/metrics");
  assert.match(text, /ephor_signals_received_total\{issuer="okta",event="account-disabled",outcome="killed"\} [1-9]/);
  assert.match(text, /ephor_signals_received_total\{issuer="okta",event="account-disabled",outcome="repeated"\} [1-9]/);
});
