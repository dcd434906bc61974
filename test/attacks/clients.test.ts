import assert from "node:assert/strict";
import { after, test } from "node:test";
import { BILLING_SECRET, type Answer, type Form } from "../support/world.ts";
import { asserted, BILLING, chainWorld, claimsOf, READ_INVOICE } from "./chain-world.ts";
import { assertNothingLeaked, eventOf, granted, raw, refusedNow, type Refusal } from "./refusals.ts";

const w = await chainWorld({ after });

const client = (reason: Refusal["reason"]): Refusal => ({ error: "invalid_client", reason });
const basic = (id: string, secret: string): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString("base64")}`,
});
const billing = { client_id: "billing", client_secret: BILLING_SECRET };
const token = async (): Promise<string> => granted(await w.self("release-bot", READ_INVOICE));
const forms = ["/introspect", "/revoke"] as const;

test("A-CLI-01 two methods of client authentication in one request are invalid_request", async () => {
  const several: Refusal = { error: "invalid_request", reason: "client_several_methods" };
  const assertion = asserted(w.workload("billing-svc"));
  for (const path of forms) {
    await refusedNow(
      w,
      several,
      () => w.post(path, { token: "t", ...billing }, basic("billing", BILLING_SECRET)),
      path,
    );
    await refusedNow(
      w,
      several,
      () => w.post(path, { token: "t", ...assertion }, basic("billing", BILLING_SECRET)),
      path,
    );
    await refusedNow(w, several, () => w.post(path, { token: "t", ...billing, ...assertion }), path);
    assert.equal((await w.post(path, { token: "t" }, basic("billing", BILLING_SECRET))).status, 200);
    assert.equal((await w.post(path, { token: "t", ...billing })).status, 200);
  }
  await refusedNow(w, several, () => w.self("release-bot", { ...READ_INVOICE, ...billing, ...assertion }));
});

test("A-CLI-02 an unknown client and a wrong secret cannot be told apart (INV-26)", async () => {
  const ask = (id: string, secret: string): Promise<Answer> =>
    w.post("/introspect", { token: "t", client_id: id, client_secret: secret });
  const unknown = await refusedNow(w, client("client_unknown"), () => ask("nobody", BILLING_SECRET));
  const wrong = await refusedNow(w, client("client_secret_wrong"), () => ask("billing", `${BILLING_SECRET}x`));
  // A resource that has no secret, and an agent, which never has one.
  const without = await refusedNow(w, client("client_unknown"), () => ask("ledger", BILLING_SECRET));
  const agent = await refusedNow(w, client("client_unknown"), () => ask("billing-svc", BILLING_SECRET));
  for (const other of [wrong, without, agent]) {
    assert.equal(other.text, unknown.text);
    assert.deepEqual(facesOf(other), facesOf(unknown));
  }
  const spans = { unknown: [] as number[], wrong: [] as number[] };
  for (let i = 0; i < 200; i++) {
    for (const [kind, id] of [
      ["unknown", "nobody"],
      ["wrong", "billing"],
    ] as const) {
      const started = performance.now();
      // From one place, so that both are only counted.
      await w.post(
        "/introspect",
        { token: "t", client_id: id, client_secret: "wrong" },
        { "x-forwarded-for": "10.255.255.1" },
      );
      spans[kind].push(performance.now() - started);
    }
  }
  const ratio = median(spans.unknown) / median(spans.wrong);
  assert.ok(ratio > 0.6 && ratio < 1.67, `medians differ by a factor of ${ratio}`);
});

test("A-CLI-03 a secret of megabytes and a crowd of guesses cost the others nothing", async () => {
  const huge = await w
    .post("/introspect", { token: "t", client_id: "billing", client_secret: "x".repeat(10 * 1024 * 1024) })
    .catch(() => undefined);
  if (huge) assert.equal(huge.status, 413);
  await refusedNow(w, client("client_secret_wrong"), () =>
    w.post("/introspect", { token: "t", client_id: "billing", client_secret: "x".repeat(60_000) }),
  );
  // A right secret with something behind it is a wrong one, however long.
  await refusedNow(w, client("client_secret_wrong"), () =>
    w.post("/introspect", { token: "t", client_id: "billing", client_secret: BILLING_SECRET + "y".repeat(600) }),
  );
  const live = await token();
  const guesses = Array.from({ length: 200 }, (_, i) =>
    w.post("/introspect", { token: live, client_id: "billing", client_secret: `guess-${i}` }),
  );
  const started = performance.now();
  const healthy = await Promise.all(Array.from({ length: 10 }, () => w.isActive(live)));
  // The crowd, its server and this clock share one thread, so the bound is a loose one.
  assert.ok(performance.now() - started < 8_000);
  assert.ok(healthy.every(Boolean));
  assert.ok((await Promise.all(guesses)).every((answer) => answer.status === 401));
});

test("A-CLI-04 a client assertion is for us alone, for five minutes, by itself and once, over all replicas", async () => {
  const ask = (claims: Record<string, unknown>, form: Form = {}): Promise<Answer> =>
    w.post("/token", {
      grant_type: "client_credentials",
      ...asserted(w.privateKeyJwt(claims)),
      ...READ_INVOICE,
      ...form,
    });
  const { issuer } = w.server;
  for (const aud of [
    `${issuer}/token`,
    [issuer],
    [issuer, "https://other.example"],
    "https://other.example",
    `${issuer}/`,
    undefined,
  ]) {
    await refusedNow(
      w,
      client(["token_audience", "token_claim_missing", "token_claim_type"]),
      () => ask({ aud }),
      JSON.stringify(aud),
    );
  }
  await refusedNow(w, client("token_lifetime"), () => ask({ exp: w.now() + 301 }));
  granted(await ask({ exp: w.now() + 300 }));
  await refusedNow(w, client("token_claim_missing"), () => ask({ exp: undefined }));
  await refusedNow(w, client("token_expired"), () => ask({ exp: w.now() - 30 }));
  await refusedNow(w, client("token_claim_missing"), () => ask({ jti: undefined }));
  await refusedNow(w, client("client_mismatch"), () => ask({ sub: "release-bot" }));
  await refusedNow(w, client("client_mismatch"), () => ask({}, { client_id: "release-bot" }));
  // Another agent's name, signed by this agent's key.
  await refusedNow(w, client(["token_signature", "token_key_unknown"]), () =>
    ask({ iss: "release-bot", sub: "release-bot" }),
  );
  await refusedNow(w, client("client_unknown"), () => ask({ iss: "nobody", sub: "nobody" }));
  await refusedNow(w, client(["token_issuer_unknown", "client_unknown"]), () => ask({ iss: issuer, sub: "keyed-bot" }));

  const once = asserted(w.privateKeyJwt());
  const send = (url: string): Promise<Answer> =>
    w.post(`${url}/token`, { grant_type: "client_credentials", ...once, ...READ_INVOICE });
  granted(await send(w.url));
  await refusedNow(w, client("replayed"), () => send(w.url));
  const other = await w.replica();
  await refusedNow(w, client("replayed"), () => send(other.url));
  // The same jti in other words.
  const jti = "one-and-the-same";
  granted(await ask({ jti }));
  await refusedNow(w, client("replayed"), () => ask({ jti, exp: w.now() + 30 }));
});

test("A-CLI-04 an assertion that was refused is not used up, and one used for another form is", async () => {
  const assertion = asserted(w.privateKeyJwt());
  const ask = (scope: string): Promise<Answer> =>
    w.post("/token", { grant_type: "client_credentials", ...assertion, resource: BILLING, scope });
  await refusedNow(w, { error: "invalid_scope", reason: "scope_unknown" }, () => ask("ledger:read"));
  granted(await ask("billing:refund"));
  await refusedNow(w, client("replayed"), () => ask("billing:refund"));
});

test("A-CLI-04 an assertion that asked once about a task, a token or its own revocation asks nothing more", async () => {
  const opened = await w.request("POST", "/v1/tasks", {
    headers: { authorization: `Bearer ${w.privateKeyJwt()}` },
    body: { purpose: "x" },
  });
  assert.equal(opened.status, 201, opened.text);
  const path = `/v1/tasks/${String(opened.body["txn"])}`;
  const at = (method: string, url: string, assertion: string): Promise<Answer> =>
    w.request(method, url, { headers: { authorization: `Bearer ${assertion}` } });
  const used = w.privateKeyJwt();
  assert.equal((await at("GET", path, used)).status, 200);
  for (const [method, url] of [
    ["GET", path],
    ["POST", `${path}/complete`],
  ] as const) {
    const again = await at(method, url, used);
    assert.equal(again.status, 401, again.text);
    assert.equal((await eventOf(w, again)).reason, "replayed");
  }
  await refusedNow(w, client("replayed"), () =>
    w.post("/token", { grant_type: "client_credentials", ...asserted(used), ...READ_INVOICE }),
  );
  const asker = asserted(w.privateKeyJwt());
  const first = await w.post("/revoke", { token: "t", ...asker });
  assert.equal(first.status, 200, first.text);
  await refusedNow(w, client(["token_replayed", "replayed"]), () => w.post("/revoke", { token: "t", ...asker }));
  assert.equal((await at("POST", `${path}/complete`, w.privateKeyJwt())).status, 200);
});

test("A-CLI-05 introspection is for those who have a resource: nobody, a token of ours or another agent's proof get a 401", async () => {
  const live = await token();
  await refusedNow(w, client("client_missing"), () => w.post("/introspect", { token: live }));
  await refusedNow(w, client(["client_missing", "client_assertion_invalid"]), () =>
    w.post("/introspect", { token: live }, { authorization: `Bearer ${live}` }),
  );
  await refusedNow(w, client(["client_missing", "client_assertion_invalid"]), () =>
    w.post("/introspect", { token: live }, { authorization: `Bearer ${w.operatorKey}` }),
  );
  await refusedNow(w, client("client_not_allowed"), () =>
    w.post("/introspect", { token: live, ...asserted(w.workload("release-bot")) }),
  );
  await refusedNow(w, client("token_issuer_unknown"), () => w.post("/introspect", { token: live, ...asserted(live) }));
  await refusedNow(w, client("actor_not_workload"), () =>
    w.post("/introspect", { token: live, ...asserted(w.human()) }),
  );
  // The same words for a token that lives and for none: no hint.
  const bare = await w.post("/introspect", { token: "x" });
  assert.equal(bare.text, (await w.post("/introspect", { token: live })).text);
  const ledger = await w.post("/introspect", { token: live, ...asserted(w.workload("billing-svc")) });
  assert.deepEqual(ledger.body, { active: false });
});

test("A-CLI-06 whatever is no live token for the asker is inactive, with nothing beside it", async () => {
  const live = await token();
  assert.equal(await w.isActive(live), true);
  const expired = granted(await w.self("release-bot", { ...READ_INVOICE, ttl: "1" }));
  w.clock.advance(1);
  const killed = await token();
  assert.equal((await w.kill({ jti: claimsOf(killed).jti })).status, 200);
  const elsewhere = granted(await w.onBehalf("triage-bot", w.human(), { audience: "ledger", scope: "ledger:read" }));
  const [header = "", payload = "", signature = ""] = live.split(".");
  const none = Buffer.from('{"typ":"at+jwt","alg":"none"}').toString("base64url");
  const dead: Record<string, string> = {
    expired,
    killed,
    elsewhere,
    handOver: await w.handed(),
    workload: w.workload("release-bot"),
    human: w.human(),
    assertion: w.privateKeyJwt(),
    operatorKey: w.operatorKey,
    garbage: "garbage",
    dots: ".".repeat(9_000),
    unsigned: `${none}.${payload}.`,
    noSignature: `${header}.${payload}.`,
    otherPayload: `${header}.${elsewhere.split(".")[1]}.${signature}`,
    padded: `${live}=`,
    twice: `${live}.${signature}`,
    blank: ` ${live}`,
    upperCase: live.toUpperCase(),
  };
  for (const [kind, value] of Object.entries(dead)) {
    const answer = await w.introspect(value);
    assert.equal(answer.status, 200, kind);
    assert.equal(answer.text, '{"active":false}', kind);
    assert.equal(answer.headers.get("cache-control"), "no-store", kind);
  }
  assert.equal(await w.isActive(live), true);
});

test("A-CLI-08 revocation tells nothing about tokens, and ends only what is the asker's", async () => {
  const revoke = (value: string, form: Form): Promise<Answer> => w.post("/revoke", { token: value, ...form });
  const live = await token();
  for (const value of ["garbage", w.workload("release-bot"), w.human(), "x".repeat(20_000)]) {
    const answer = await revoke(value, billing);
    assert.deepEqual([answer.status, answer.text], [200, ""]);
  }
  // Another agent, and the resource that it is not for.
  assert.deepEqual((await revoke(live, asserted(w.workload("summary-bot")))).status, 200);
  assert.equal((await revoke(live, asserted(w.workload("billing-svc")))).status, 200);
  assert.equal(await w.isActive(live), true);
  assert.equal((await revoke(live, asserted(w.workload("release-bot")))).status, 200);
  assert.equal(await w.isActive(live), false);
  const another = await token();
  assert.equal((await revoke(another, billing)).status, 200);
  assert.equal(await w.isActive(another), false);
  await refusedNow(w, client("client_missing"), () => revoke(another, {}));
});

test("A-CLI-08 who was handed work may give it back: revocation of a hand-over ends what was made of it", async () => {
  const given = await w.handed();
  const below = granted(await w.redeem("summary-bot", given, READ_INVOICE));
  assert.equal((await w.post("/revoke", { token: given, ...asserted(w.workload("lonely-bot")) })).status, 200);
  assert.equal(await w.isActive(below), true);
  assert.equal((await w.post("/revoke", { token: given, ...asserted(w.workload("summary-bot")) })).status, 200);
  assert.equal(await w.isActive(below), false);
  await refusedNow(w, { error: "invalid_request", reason: "killed" }, () =>
    w.redeem("summary-bot", given, READ_INVOICE),
  );
});

test("A-CLI-09 a wrong token_type_hint changes nothing (RFC 7009 §2.1)", async () => {
  for (const token_type_hint of ["refresh_token", "id_token", "pct", "", "'; drop table"]) {
    const live = await token();
    assert.equal((await w.post("/revoke", { token: live, token_type_hint, ...billing })).status, 200);
    assert.equal(await w.isActive(live), false, token_type_hint);
  }
});

test("A-CLI-10 no header of a stranger gets into metadata, and no private member into the key set", async () => {
  const paths = [
    "oauth-authorization-server",
    "openid-configuration",
    "jwks.json",
    "ephor-record-keys",
    "oauth-protected-resource/v1",
  ];
  for (const name of paths.map((path) => `/.well-known/${path}`)) {
    const plain = await w.request("GET", name);
    assert.equal(plain.status, 200, name);
    for (const lines of [
      ["Host: evil.example"],
      [
        "Host: 127.0.0.1",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 1",
        "Forwarded: host=evil.example;proto=https",
      ],
      ["Host: evil.example:99999@x", "X-Original-URL: /evil", "X-Rewrite-URL: /evil"],
    ]) {
      const answer = await raw(w.url, [`GET ${name} HTTP/1.1`, ...lines, "Connection: close", "", ""].join("\r\n"));
      assert.ok(answer.status === 200 || answer.status === 400, `${name}: ${answer.status}`);
      if (answer.status === 200) assert.deepEqual(answer.body, plain.body);
      assert.doesNotMatch(answer.text + JSON.stringify([...answer.headers]), /evil/);
    }
  }
  for (const name of ["jwks.json", "ephor-record-keys"]) {
    const keys = (await w.request("GET", `/.well-known/${name}`)).body["keys"] as Record<string, unknown>[];
    assert.ok(keys.length > 0);
    for (const key of keys)
      assert.deepEqual(
        Object.keys(key).filter((member) => /^(d|p|q|dp|dq|qi|k|oth)$/.test(member)),
        [],
      );
  }
});

test("INV-15 none of the tokens of this file is in a log line or an event", () => assertNothingLeaked(w));

/** What a stranger sees beside the body; ids and dates differ by themselves. */
function facesOf(answer: Answer): [string, string][] {
  return [...answer.headers].filter(([name]) => name !== "x-request-id" && name !== "date");
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}
