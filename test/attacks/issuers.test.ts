import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { Cleanup } from "../support/database.ts";
import type { Misbehaviour, Page } from "../support/oidc-issuer-protocol.ts";
import { mintWith, startIssuer } from "../support/oidc-issuer.ts";
import { world } from "../support/world.ts";
import { doorGrants, doorsOf, everyDoor } from "./doors.ts";
import { assertFace, assertNothingLeaked, badToken, eventOf, granted, refused } from "./refusals.ts";

// Where the keys of outside issuers come from: discovery, fetching, forbidden addresses, keys that come and go.

/** Host names of this file, and how often each was asked for; the system is not asked. */
const names = new Map<string, (question: number) => readonly string[]>();
const questions = new Map<string, number>();
async function resolve(host: string): Promise<{ address: string; family: number }[]> {
  const question = (questions.get(host) ?? 0) + 1;
  questions.set(host, question);
  return (names.get(host)?.(question) ?? []).map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
}

/** A server that counts who comes. */
async function listening(handler: RequestListener): Promise<{ url: string; port: number; visits: () => number }> {
  let visits = 0;
  const server = createServer(handler).on("connection", () => visits++);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, port, visits: () => visits };
}

const atEnd: Cleanup = { after };
const [w, flaky, one, two] = await Promise.all([
  world(atEnd, { resolve }),
  startIssuer(atEnd),
  startIssuer(atEnd, { kid: "k1" }),
  startIssuer(atEnd, { kid: "k1" }),
]);
const nobody = await listening((_request, response) => void response.end("{}"));
const doors = doorsOf(w);
const [door] = doors;
assert.ok(door);
const every = everyDoor(w, doors);
const unreachable = badToken("token_issuer_unreachable");

const ISSUERS = { flaky, one, two };
type Name = keyof typeof ISSUERS;
const putIssuer = async (name: string, spec: Record<string, unknown>): Promise<number> =>
  (await w.operator("PUT", `/v1/issuers/${name}`, { audience: w.server.issuer, ...spec })).status;
let changes = 0;
/** An issuer of whom nothing is known yet: with each change of a trust entry, what was fetched by the old one is gone. */
const cold = async (name: Name): Promise<void> => {
  const status = await putIssuer(name, {
    url: ISSUERS[name].url,
    internal: true,
    max_token_age: `${++changes + 100}m`,
  });
  assert.ok(status === 200 || status === 201, String(status));
};
for (const name of ["flaky", "one", "two"] as const) await cold(name);
await w.apply(
  `
agents:
${Object.keys(ISSUERS)
  .map((name) => `  ${name}-bot: { owner: dana@acme.example, trust: [{ issuer: ${name}, claims: { sub: ${name} } }] }`)
  .join("\n")}
grants:
${Object.keys(ISSUERS)
  .map((name) => doorGrants(`${name}-bot`))
  .join("")}
`,
  "issuers.yaml",
);
const tokenOf = (name: Name, options: { kid?: string } = {}): string =>
  ISSUERS[name].mint({ sub: name, aud: w.server.issuer }, { now: w.now(), ...options });
/** A token that needs keys; whoever it names, it fails before anybody asks. */
const tokenFor = (iss: string): string => one.mint({ iss, sub: "x", aud: w.server.issuer }, { now: w.now() });
const problemOf = async (answer: Awaited<ReturnType<typeof refused>>): Promise<unknown> =>
  (JSON.parse((await eventOf(w, answer)).body) as Record<string, unknown>)["problem"];

test("A-OIDC-01 a token of an issuer that is not configured: nobody is asked for its keys", async () => {
  const stranger = await startIssuer(atEnd);
  for (const more of [{}, { sub: "flaky" }, { iss: `${stranger.url}/`, jku: stranger.jwksUri }]) {
    await every.refuse(
      "token_issuer_unknown",
      () => stranger.mint({ sub: "flaky", aud: w.server.issuer, ...more }, { now: w.now() }),
      "stranger",
    );
  }
  await every.refuse(
    ["token_key_unknown", "token_signature"],
    () => stranger.mint({ iss: flaky.url, sub: "flaky", aud: w.server.issuer }, { now: w.now() }),
    "in another's name",
  );
  await every.refuse(
    "token_issuer_unknown",
    () => stranger.mint({ iss: nobody.url, sub: "flaky", aud: w.server.issuer }, { now: w.now() }),
    "of a server that listens",
  );
  assert.equal((await stranger.requests()).total, 0);
  assert.equal(nobody.visits(), 0);
  await every.grant(() => tokenOf("flaky"), "a configured one");
});

test("A-OIDC-03 two issuers with the same key id: each verifies its own tokens only, whichever was asked for first", async () => {
  const crossed = (of: Name, by: Name): string =>
    mintWith(ISSUERS[by].key({ kid: "k1" }), { iss: ISSUERS[of].url, sub: of, aud: w.server.issuer }, { now: w.now() });
  for (const order of [
    ["one", "two"],
    ["two", "one"],
  ] as const) {
    await cold("one");
    await cold("two");
    const [first, second] = order;
    granted(await door.send(tokenOf(first, { kid: "k1" })));
    await every.refuse("token_signature", () => crossed(second, first), `${second} by ${first}, cold`);
    await every.refuse("token_signature", () => crossed(first, second), `${first} by ${second}`);
    granted(await door.send(tokenOf(second, { kid: "k1" })));
    await every.refuse("token_signature", () => crossed(second, first), `${second} by ${first}, warm`);
    await every.grant(() => tokenOf(first, { kid: "k1" }), first);
  }
});

test("A-OIDC-04 a key that the issuer took back verifies nothing after one refresh interval of ten minutes", async () => {
  await cold("flaky");
  const kid = await flaky.rotate({ kid: "leaked" });
  granted(await door.send(tokenOf("flaky", { kid })));
  const remembered = flaky.mint({ sub: "flaky", aud: w.server.issuer }, { now: w.now(), kid, ttl: 3_600 });
  granted(await door.send(remembered));
  await flaky.removeKey(kid);
  w.clock.advance(601);
  await every.refuse("token_key_unknown", () => tokenOf("flaky", { kid }), "fresh");
  await every.refuse("token_key_unknown", () => remembered, "whose signature was found good before");
  await every.grant(() => tokenOf("flaky", { kid: flaky.key({ algorithm: "ES256" }).kid }), "the keys that stayed");
  await flaky.reset();
});

/** What an issuer says instead of the truth. Each is refused cold; the good documents work again without a restart. */
async function refusedWhile(
  page: Page,
  how: Misbehaviour,
  o: { problem: string; label: string; withinMs?: number },
): Promise<void> {
  await flaky.misbehave(page, how);
  await cold("flaky");
  const answer = await refused(
    w,
    { ...unreachable, withinMs: o.withinMs ?? 1_000 },
    () => door!.send(tokenOf("flaky")),
    o.label,
  );
  assert.equal(await problemOf(answer), o.problem, o.label);
  await flaky.misbehave(page, null);
}

test("A-OIDC-05 a discovery document of another issuer, or one that points where keys must not come from", async () => {
  for (const issuer of ["https://evil.example", `${flaky.url}/`, flaky.url.toUpperCase(), "", null, [flaky.url]]) {
    await refusedWhile("discovery", { members: { issuer } }, { problem: "issuer_mismatch", label: String(issuer) });
  }
  for (const jwks_uri of [
    "file:///etc/passwd",
    "data:application/json,{}",
    "ftp://127.0.0.1/jwks",
    "//127.0.0.1/jwks",
    "/jwks",
    "",
    null,
    [flaky.jwksUri],
    1,
  ]) {
    await refusedWhile("discovery", { members: { jwks_uri } }, { problem: "jwks_uri", label: String(jwks_uri) });
  }
  for (const jwks_uri of [
    "http://10.0.0.1/jwks",
    "http://169.254.169.254/latest/meta-data",
    "https://169.254.169.254/",
    "https://[fd00:ec2::254]/",
    "http://[::ffff:a9fe:a9fe]/",
  ]) {
    await refusedWhile("discovery", { members: { jwks_uri } }, { problem: "address", label: jwks_uri });
  }
  await refusedWhile(
    "discovery",
    { members: { jwks_uri: `http://user:pw@127.0.0.1:${nobody.port}/jwks` } },
    { problem: "url", label: "a user" },
  );
  assert.equal(nobody.visits(), 0);
  w.clock.advance(31);
  granted(await door.send(tokenOf("flaky")));
});

test("A-OIDC-05 an issuer that changes its story keeps its old keys for ten minutes, one that is down for an hour", async () => {
  for (const [page, how, lasts] of [
    ["discovery", { members: { issuer: "https://evil.example" } }, false],
    ["discovery", { members: { jwks_uri: "file:///etc/passwd" } }, false],
    ["discovery", { status: 302, headers: { location: nobody.url } }, false],
    ["discovery", { status: 500 }, true],
    ["jwks", { status: 503, body: "{}" }, true],
    ["jwks", { body: "<html>" }, true],
  ] as const) {
    await cold("flaky");
    granted(await door.send(tokenOf("flaky")));
    await flaky.misbehave(page, how);
    w.clock.advance(599);
    granted(await door.send(tokenOf("flaky")), `${page}: before the keys are old`);
    w.clock.advance(2);
    if (lasts) granted(await door.send(tokenOf("flaky")), `${page}: an outage is ridden out`);
    else await refused(w, unreachable, () => door.send(tokenOf("flaky")), `${page}: another story is not`);
    w.clock.advance(3_000);
    await refused(w, unreachable, () => door.send(tokenOf("flaky")), `${page}: after an hour`);
    await flaky.misbehave(page, null);
    w.clock.advance(31);
    granted(await door.send(tokenOf("flaky")), `${page}: works again without a restart`);
  }
});

test("A-OIDC-05 configuration with keys from nowhere that is safe is refused", async () => {
  const specs: Record<string, unknown>[] = [
    { url: "http://issuer.acme.example" },
    { url: "http://10.0.0.1", internal: true },
    { url: flaky.url.replace("127.0.0.1", "127.0.0.2") },
    { url: "file:///etc/passwd" },
    { url: "https://user@issuer.acme.example" },
    { url: "https://issuer.acme.example#x" },
    { url: "https://issuer.acme.example?x" },
    ...[
      "http://issuer.acme.example/jwks",
      "file:///etc/passwd",
      "data:application/json,{}",
      "ftp://x/jwks",
      "/jwks",
      `${flaky.jwksUri}`,
    ].map((jwks_uri) => ({ url: "https://issuer.acme.example", jwks_uri })),
    { url: "https://issuer.acme.example", algorithms: ["none"] },
    { url: "https://issuer.acme.example", algorithms: ["HS256"] },
    { url: w.server.issuer, internal: true },
    { url: flaky.url, internal: true },
  ];
  for (const spec of specs) assert.equal(await putIssuer("bad", spec), 422, JSON.stringify(spec));
  assert.equal((await w.operator("GET", "/v1/issuers/bad")).status, 404);
  const noAudience = await w.operator("PUT", "/v1/issuers/bad", { url: "https://issuer.acme.example" });
  assert.equal(noAudience.status, 422);
  assert.equal(
    await putIssuer("bad", { url: "https://issuer.acme.example", jwks_uri: "https://keys.acme.example/jwks" }),
    201,
  );
});

test("A-OIDC-06 redirects are not followed, and carry nothing of ours", async () => {
  await flaky.forgetRequests();
  for (const page of ["discovery", "jwks"] as const) {
    for (const status of [301, 302, 303, 307, 308]) {
      await refusedWhile(
        page,
        { status, headers: { location: `${nobody.url}/jwks` } },
        { problem: "redirect", label: `${page} ${status}` },
      );
    }
    for (const location of [
      "http://169.254.169.254/latest/meta-data",
      "http://localhost/",
      "file:///etc/passwd",
      flaky.jwksUri,
      "",
    ]) {
      await refusedWhile(
        page,
        { status: 302, headers: { location } },
        { problem: "redirect", label: `${page} ${location}` },
      );
    }
  }
  assert.equal(nobody.visits(), 0);
  const { seen } = await flaky.requests();
  for (const { headers, path } of seen) {
    assert.deepEqual(
      Object.keys(headers).sort(),
      ["accept", "accept-encoding", "connection", "host", "user-agent"],
      path,
    );
  }
});

test("A-OIDC-07 an issuer whose host is, or resolves to, an address that is not public", async () => {
  const addresses = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "::1",
    "::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001::1",
    "ff02::1",
    "168.63.129.16",
  ];
  for (const [at, address] of addresses.entries()) {
    const literal = address.includes(":") ? `[${address}]` : address;
    names.set(`name-${at}.example`, () => [address]);
    for (const host of [literal, `name-${at}.example`]) {
      const url = `https://${host}:${nobody.port}`;
      assert.ok((await putIssuer("inside", { url })) < 300, url);
      const answer = await refused(w, unreachable, () => door.send(tokenFor(url)), url);
      assert.equal(await problemOf(answer), "address", url);
    }
  }
  // The keys alone elsewhere; and other spellings of this machine.
  for (const jwks_uri of [
    `https://127.0.0.1:${nobody.port}/jwks`,
    `https://2130706433:${nobody.port}/jwks`,
    `https://0x7f.1:${nobody.port}/`,
    `https://0177.0.0.1:${nobody.port}/`,
  ]) {
    assert.ok((await putIssuer("inside", { url: "https://outside.example", jwks_uri })) < 300, jwks_uri);
    assert.equal(
      await problemOf(await refused(w, unreachable, () => door.send(tokenFor("https://outside.example")), jwks_uri)),
      "address",
    );
  }
  // Marked internal: private addresses, but no metadata service.
  for (const address of ["169.254.169.254", "100.100.100.200", "fe80::1", "fd00:ec2::254"]) {
    names.set("metadata.example", () => [address]);
    assert.ok((await putIssuer("inside", { url: "https://metadata.example", internal: true })) < 300);
    assert.equal(
      await problemOf(await refused(w, unreachable, () => door.send(tokenFor("https://metadata.example")), address)),
      "address",
    );
  }
  assert.equal(nobody.visits(), 0);
  await cold("flaky");
  granted(await door.send(tokenOf("flaky")), "marked internal, at loopback");
});

test("A-OIDC-08 a name that changes between check and connection: the checked address is the one connected to", async () => {
  const keys = await listening(
    (_request, response) =>
      void response.end(JSON.stringify({ keys: [{ ...one.key({ kid: "k1" }).publicJwk, kid: "k1" }] })),
  );
  const url = `https://${one.url.slice("http://".length).replace(":", "-")}.example`;
  const token = (): string => one.mint({ iss: url, sub: "rebound", aud: w.server.issuer }, { now: w.now(), kid: "k1" });
  // A name that is half inside is refused as a whole, in either order.
  for (const pair of [
    ["2606:4700:4700::1111", "127.0.0.1"],
    ["127.0.0.1", "2606:4700:4700::1111"],
  ]) {
    names.set("half.example", () => pair);
    assert.ok((await putIssuer("rebound", { url, jwks_uri: `https://half.example:${keys.port}/jwks` })) < 300);
    assert.equal(await problemOf(await refused(w, unreachable, () => door.send(token()), pair.join())), "address");
  }
  assert.equal(keys.visits(), 0);
  // Forbidden when asked the first time, allowed later: refused. Allowed first, forbidden later: asked once only.
  for (const [label, answers] of Object.entries({
    "bad first": ["169.254.169.254", "127.0.0.1"],
    "good first": ["127.0.0.1", "169.254.169.254"],
  })) {
    const isGood = label === "good first";
    questions.delete("localhost");
    names.set("localhost", (question) => [answers[Math.min(question, 2) - 1] as string]);
    assert.ok(
      (await putIssuer("rebound", {
        url,
        internal: true,
        jwks_uri: `http://localhost:${keys.port}/jwks${isGood ? "" : "2"}`,
      })) < 300,
    );
    const answer = await refused(
      w,
      isGood ? badToken("no_rule_matches") : unreachable,
      () => door.send(token()),
      label,
    );
    if (!isGood) assert.equal(await problemOf(answer), "address");
    assert.equal(questions.get("localhost"), 1, label);
    assert.equal(keys.visits(), isGood ? 1 : 0, label);
  }
});

test("A-OIDC-09 key sets that are too large, never end, are compressed or are no key set", async () => {
  const manyKeys = (count: number): string =>
    JSON.stringify({ keys: Array.from({ length: count }, (_, i) => ({ kty: "EC", kid: `${i}` })) });
  const cases: Record<string, [string, Misbehaviour]> = {
    "5 MB": ["too_large", { body: " ".repeat(5_000_000) }],
    "10,000 keys": ["too_large", { body: manyKeys(10_000) }],
    "101 keys": ["keys", { body: manyKeys(101) }],
    "never-ending": ["too_large", { endless: true }],
    "a gzip bomb": [
      "encoding",
      {
        headers: { "content-encoding": "gzip" },
        bodyBase64: gzipSync(Buffer.alloc(5_000_000, 0x20)).toString("base64"),
      },
    ],
    HTML: ["json", { headers: { "content-type": "text/html" }, body: "<!doctype html><title>Sign in</title>" }],
    nothing: ["json", { body: "" }],
    "a list": ["json", { body: "[]" }],
    "keys that are no list": ["keys", { body: '{"keys":{}}' }],
    "no keys": ["keys", { body: "{}" }],
    "keys twice": ["json", { body: '{"keys":[],"keys":[]}' }],
    "nested 1,000 deep": ["json", { body: `{"keys":${"[".repeat(1_000)}${"]".repeat(1_000)}}` }],
    "an error": ["status", { status: 500, body: manyKeys(1) }],
    "no content": ["status", { status: 204 }],
  };
  for (const [label, [problem, how]] of Object.entries(cases)) await refusedWhile("jwks", how, { problem, label });
  await refusedWhile(
    "discovery",
    { body: `{"issuer":"${flaky.url}","jwks_uri":"${flaky.jwksUri}","x":"${"x".repeat(70_000)}"}` },
    { problem: "too_large", label: "a discovery document of 70 kB" },
  );
  // Old keys stay while the answer is bad.
  await cold("flaky");
  granted(await door.send(tokenOf("flaky")));
  await flaky.misbehave("jwks", { endless: true });
  w.clock.advance(601);
  granted(await door.send(tokenOf("flaky")), "by the old keys");
  await flaky.misbehave("jwks", null);
});

test("A-OIDC-09 slow answers end after five seconds, for their own issuer only", async () => {
  const slow = await listening((request, response) => {
    if (request.url === "/hang") return;
    response.writeHead(200, { "content-type": "application/json" });
    const timer = setInterval(() => response.write(" "), 250);
    response.on("close", () => clearInterval(timer));
  });
  for (const kind of ["hang", "drip"])
    assert.ok(
      (await putIssuer(kind, { url: `https://${kind}.example`, internal: true, jwks_uri: `${slow.url}/${kind}` })) <
        300,
    );
  await cold("one");
  granted(await door.send(tokenOf("one")));
  w.clock.advance(61);
  const started = performance.now();
  const waiting = ["hang", "drip"].map(
    async (kind) => [kind, await door.send(tokenFor(`https://${kind}.example`)), performance.now() - started] as const,
  );
  for (let round = 0; round < 5; round++) {
    const before = performance.now();
    granted(await door.send(tokenOf("one")), "another issuer meanwhile");
    assert.ok(performance.now() - before < 4_000, "it does not wait for them");
  }
  for (const [kind, answer, tookMs] of await Promise.all(waiting)) {
    assertFace(answer, { error: "invalid_request", label: kind });
    assert.ok(tookMs < 10_000, `${kind}: ${tookMs} ms`);
  }
  const recorded = await w.admin<{ reason: string }>(
    'select reason from ephor.events where body like \'%"problem":"timeout"%\'',
  );
  assert.deepEqual([...new Set(recorded.map(({ reason }) => reason))], ["token_issuer_unreachable"]);
});

test("A-OIDC-10 a thousand unknown key ids in ten seconds bring one fetch, and good tokens keep working", async () => {
  await cold("flaky");
  granted(await door.send(tokenOf("flaky")));
  w.clock.advance(31);
  await flaky.forgetRequests();
  const [, payload] = tokenOf("flaky").split(".");
  const unknown = (kid: string): string =>
    `${Buffer.from(JSON.stringify({ alg: "RS256", kid })).toString("base64url")}.${payload}.${Buffer.alloc(256, 1).toString("base64url")}`;
  for (let second = 0; second < 10; second++) {
    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => door.send(unknown(`k-${second}-${i}`))));
    for (const answer of answers) assertFace(answer, { error: "invalid_request" });
    granted(await door.send(tokenOf("flaky")), "a good one");
    w.clock.advance(1);
  }
  assert.equal((await flaky.requests()).jwks, 1);
  w.clock.advance(31);
  await door.send(unknown("later"));
  assert.equal((await flaky.requests()).jwks, 2, "and one more after thirty seconds");
});

test("A-OIDC-11 the issuer is down when it has a new key: refused, and good again without a restart", async () => {
  await cold("flaky");
  granted(await door.send(tokenOf("flaky")));
  w.clock.advance(31);
  const kid = await flaky.rotate();
  await flaky.misbehave("jwks", { status: 503 });
  await flaky.misbehave("discovery", { status: 503 });
  await refused(w, badToken("token_key_unknown"), () => door.send(tokenOf("flaky", { kid })));
  granted(await door.send(tokenOf("flaky", { kid: flaky.key({ algorithm: "ES256" }).kid })), "by a key that is known");
  await flaky.misbehave("jwks", null);
  await flaky.misbehave("discovery", null);
  w.clock.advance(31);
  await every.grant(() => tokenOf("flaky", { kid }), "the new key");
  // Down from the start, and gone altogether.
  await cold("two");
  await two.stop();
  await every.refuse("token_issuer_unreachable", () => tokenOf("two", { kid: "k1" }), "nobody listens");
});

test("no refusal of this file leaked or called anybody", async () => {
  assert.equal(nobody.visits(), 0);
  await assertNothingLeaked(w);
});
