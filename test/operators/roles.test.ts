/** What people may do at `/v1`: their roles, as the trust objects are now. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { after, test } from "node:test";
import { EPHOR_ACTIONS } from "../../src/core/trust/ephor-resource.ts";
import { routes } from "../../src/http/routes/all.ts";
import { usualTrust, world, type Answer } from "../support/world.ts";
import { signedIn, withConsole, type SignedInClient } from "./people-stage.ts";

const w = await world({ after }, { trust: (issuers) => withConsole(usualTrust(issuers)) });

const put = async (name: string, roles: readonly string[], sub = name): Promise<void> => {
  const answer = await w.operator("PUT", `/v1/operators/${name}`, {
    sign_in: { issuer: "okta", claims: { sub } },
    roles,
  });
  assert.ok(answer.status < 300, answer.text);
};

const codeOf = ({ status, body }: Answer): string => `${status} ${String(body["code"] ?? "")}`;

/** Refusals that were looked for before. */
const known = new Set<unknown>();

/**
 * A refusal at the edge that was not there before is this one. It is written beside the answer, so it may take a moment; of one
 * moment's events nobody knows which replica's is the newest.
 */
async function recorded(agent: string, reason: string, route: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const events = await w.events({ type: "admin.request", decision: "refused", limit: "100" });
    const news = events.filter(({ id }) => !known.has(id));
    const found = news.filter((event) => event["agent"] === agent && event["reason"] === reason);
    if (found.some((event) => JSON.stringify(event).includes(`"route":"${route}"`))) {
      for (const { id } of events) known.add(id);
      return;
    }
    assert.ok(performance.now() < deadline, `not recorded: ${agent} ${reason} ${route}, but ${JSON.stringify(news)}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("every route of /v1 is open to a person with its role, and to nobody with all the others", async () => {
  for (const role of EPHOR_ACTIONS) {
    await put(`only-${role}`, [role]);
    await put(
      `but-${role}`,
      EPHOR_ACTIONS.filter((one) => one !== role),
    );
  }
  const people = new Map<string, SignedInClient>();
  for (const role of EPHOR_ACTIONS)
    for (const name of [`only-${role}`, `but-${role}`]) people.set(name, await signedIn(w, name));
  let seen = 0;
  for (const route of routes) {
    if (typeof route.auth !== "object") continue;
    seen += 1;
    const { method, auth } = route;
    const path = route.path.replace(/\{\w+\}/g, "nothing-here");
    const label = `${method} ${path}`;
    // A body that no route takes: whoever is let in is told so, and nothing is done.
    const body = route.body === undefined ? undefined : { nonsense: true };
    const one = await people.get(`only-${auth.scope}`)?.send(method, path, body);
    assert.ok(one !== undefined && ![401, 403].includes(one.status), `${label}: ${one?.status} ${one?.text}`);
    if (auth.ownToo === true) continue;
    const other = await people.get(`but-${auth.scope}`)?.send(method, path, body);
    assert.equal(other && codeOf(other), "403 access_denied", label);
    await recorded(`operator:but-${auth.scope}`, "role_missing", route.path);
  }
  assert.ok(seen > 40);
});

test("what only the operator key, or only an agent may, no person may, whatever their roles", async () => {
  await put("all", EPHOR_ACTIONS);
  const all = await signedIn(w, "all");
  for (const route of routes) {
    if (route.auth !== "operator" && route.auth !== "agent") continue;
    const path = route.path.replace(/\{\w+\}/g, "nothing-here");
    const answer = await all.send(route.method, path, route.body === undefined ? undefined : {});
    const expected = route.auth === "operator" ? "403 access_denied" : "401 invalid_token";
    assert.equal(codeOf(answer), expected, `${route.method} ${path}`);
    const reason = route.auth === "operator" ? "role_missing" : "client_not_allowed";
    await recorded("operator:all", reason, route.path);
  }
});

test("what a person does is recorded by the operator's name", async () => {
  await put("dana", ["trust", "kill", "read"]);
  const dana = await signedIn(w, "dana");
  const made = await dana.send("PUT", "/v1/resources/more", { resource: "https://more.example", actions: ["x"] });
  assert.equal(made.status, 201, made.text);
  assert.equal((await w.events({ type: "trust.apply" }))[0]?.["agent"], "operator:dana");
  const killed = await dana.send("POST", "/v1/kill", { agent: "lonely-bot", reason: "test" });
  assert.equal(killed.status, 200, killed.text);
  assert.equal((await w.events({ type: "kill" }))[0]?.["agent"], "operator:dana");
});

test("a person with the role trust changes neither operators, nor where they sign in, nor power over Ephor", async () => {
  await put("dana", ["trust"]);
  const dana = await signedIn(w, "dana");
  const tries: [string, string, unknown?][] = [
    ["PUT", "/v1/operators/eve", { sign_in: { issuer: "okta", claims: { sub: "eve" } } }],
    ["PUT", "/v1/operators/dana", { sign_in: { issuer: "okta", claims: { sub: "dana" } }, roles: EPHOR_ACTIONS }],
    ["DELETE", "/v1/operators/dana"],
    ["POST", "/v1/apply", { source: "eve.yaml", file: "operators: { eve: { slack: { team: T1234, user: U1234 } } }" }],
    ["PUT", "/v1/grants/own", { agent: "release-bot", resource: "ephor", actions: ["secrets"] }],
  ];
  for (const [method, path, body] of tries) {
    const answer = await dana.send(method, path, body);
    assert.equal(codeOf(answer), "403 access_denied", `${method} ${path} ${answer.text}`);
    const [event] = await w.events({ type: "trust.apply", decision: "refused" });
    assert.deepEqual([event?.["agent"], event?.["reason"]], ["operator:dana", "client_not_allowed"]);
  }
  assert.equal((await w.operator("GET", "/v1/operators/eve")).status, 404);
});

test("whoever is changed or removed is refused at the next request, on every replica; whoever is put back is not", async () => {
  await put("dana", ["read"]);
  const dana = await signedIn(w, "dana");
  const { url } = await w.replica();
  const look = async (): Promise<string[]> =>
    await Promise.all([w.url, url].map(async (at) => codeOf(await dana.send("GET", `${at}/v1/agents`))));
  assert.deepEqual(await look(), ["200 ", "200 "]);
  await put("dana", ["approve"]);
  assert.deepEqual(await look(), ["403 access_denied", "403 access_denied"]);
  await put("dana", ["read"], "somebody-else");
  assert.deepEqual(await look(), ["403 access_denied", "403 access_denied"]);
  await recorded("human:okta|dana", "role_missing", "/v1/agents");
  await put("dana", ["read"]);
  assert.deepEqual(await look(), ["200 ", "200 "]);
  await w.operator("DELETE", "/v1/operators/dana");
  assert.deepEqual(await look(), ["403 access_denied", "403 access_denied"]);
});

test("further claims of a sign-in are judged at each request", async () => {
  await w.operator("PUT", "/v1/operators/mfa", {
    sign_in: { issuer: "okta", claims: { sub: "mfa", acr: "mfa" } },
    roles: ["read"],
  });
  assert.equal((await (await signedIn(w, "mfa", { claims: { acr: "mfa" } })).send("GET", "/v1/agents")).status, 200);
  assert.equal((await (await signedIn(w, "mfa", { claims: { acr: "pwd" } })).send("GET", "/v1/agents")).status, 403);
});

test("INV-28 whatever changes something needs the session's proof from our own origin; looking does not", async () => {
  await put("dana", ["trust", "read"]);
  const [dana, sam] = [await signedIn(w, "dana"), await signedIn(w, "dana")];
  const spec = { resource: "https://csrf.example", actions: ["x"] };
  const tried = (headers: Record<string, string>): Promise<Answer> =>
    dana.send("PUT", "/v1/resources/csrf", spec, headers);
  const forged: Record<string, string>[] = [
    { "ephor-csrf": "" },
    { "ephor-csrf": "x".repeat(43) },
    { "ephor-csrf": sam.csrf },
    { origin: "https://evil.example" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
  ];
  for (const headers of forged) {
    const answer = await tried(headers);
    assert.equal(codeOf(answer), "403 access_denied", JSON.stringify(headers));
  }
  await recorded("operator:dana", "form_forged", "/v1/resources/{name}");
  assert.equal((await w.operator("GET", "/v1/resources/csrf")).status, 404);
  assert.equal(
    (await dana.send("GET", "/v1/agents", undefined, { "ephor-csrf": "", origin: "https://evil.example" })).status,
    200,
  );
  assert.equal((await tried({})).status, 201);
});

test("a human who is no operator may ask nothing but for approvals of their own", async () => {
  const human = await signedIn(w, "00u1ab");
  for (const path of ["/v1/agents", "/v1/audit", "/v1/operators"])
    assert.equal(codeOf(await human.send("GET", path)), "403 access_denied", path);
  const list = await human.send("GET", "/v1/approvals");
  assert.deepEqual([list.status, list.body["items"]], [200, []]);
  assert.equal((await human.send("POST", "/v1/kill", { all: true, reason: "x" })).status, 403);
});

test("a person with the role secrets changes no secret by which a channel signs, for whoever knows it speaks for operators", async () => {
  await put("dana", ["secrets"]);
  const dana = await signedIn(w, "dana");
  const set = (name: string): Promise<Answer> => dana.send("PUT", `/v1/secrets/${name}`, { value: "known-to-dana" });
  assert.ok((await set("slack-signing")).status < 300, "no channel signs by it yet");
  await w.operator("PUT", "/v1/secrets/slack-signing", { value: "known-to-nobody" });
  const CHANNEL = { slack: { channel: "C0123ABCD", token: "slack-token", signing_secret: "slack-signing" } };
  assert.equal((await w.operator("PUT", "/v1/channels/desk", CHANNEL)).status, 201);
  const TEAMS = { teams: { webhook: { secret: "teams-address" } } };
  assert.equal((await w.operator("PUT", "/v1/channels/ops", TEAMS)).status, 201);
  const tries: [string, () => Promise<Answer>][] = [
    ["secret.set", () => set("slack-signing")],
    ["secret.rotate", () => dana.send("POST", "/v1/secrets/slack-signing/rotate", {})],
    ["secret.remove", () => dana.send("DELETE", "/v1/secrets/slack-signing")],
    // Whoever says where questions go reads them.
    ["secret.set", () => set("teams-address")],
  ];
  for (const [type, order] of tries) {
    const answer = await order();
    assert.equal(codeOf(answer), "403 access_denied", `${type} ${answer.text}`);
    const [event] = await w.events({ type, decision: "refused" });
    assert.deepEqual([event?.["agent"], event?.["reason"]], ["operator:dana", "client_not_allowed"]);
  }
  assert.ok((await set("another")).status < 300);
  assert.ok((await w.operator("PUT", "/v1/secrets/slack-signing", { value: "new" })).status < 300);
});

test("no resource uses a secret of a channel: its upstream would learn by what operators' decisions are signed", async () => {
  await put("dana", ["trust"]);
  const dana = await signedIn(w, "dana");
  const channels = {
    "own-slack": { slack: { channel: "C0123ABCE", token: "own-token", signing_secret: "own-signing" } },
    "own-teams": { teams: { webhook: { secret: "own-address" }, secret: "own-hmac" } },
    "own-desk": { webhook: { url: "https://desk.acme.example/in", secret: "own-desk" } },
  };
  for (const [name, channel] of Object.entries(channels))
    assert.equal((await w.operator("PUT", `/v1/channels/${name}`, channel)).status, 201, name);
  const http = (more: object): object => ({ http: "https://evil.example", actions: { read: ["GET /x"] }, ...more });
  const inject = (secret: string): object => ({ header: "X-Key", value: `Bearer {secret:${secret}}` });
  const oauth = (more: object): object => ({
    credential: {
      oauth: { token_url: "https://evil.example/t", client_id: "c", grant: "client_credentials", ...more },
    },
  });
  const tries: [object, string][] = [
    [http({ inject: inject("own-signing") }), "inject.value"],
    [http({ inject: inject("own-token") }), "inject.value"],
    [http({ inject: inject("own-address") }), "inject.value"],
    [http({ inspect: { url: "https://evil.example/look", secret: "own-desk" } }), "inspect.secret"],
    [{ mcp: "https://evil.example/mcp", inject: inject("own-hmac") }, "inject.value"],
    [{ credential: { static: { secret: "own-desk", disclose: true } } }, "credential.static.secret"],
    [oauth({ secret: "own-signing" }), "credential.oauth.secret"],
    [
      oauth({ grant: "refresh_token", secret: "a-client", refresh_secret: "own-{user}" }),
      "credential.oauth.refresh_secret",
    ],
  ];
  for (const [spec, path] of tries)
    for (const who of [dana.send, w.operator]) {
      const answer = await who("PUT", "/v1/resources/leak", spec);
      assert.equal(answer.status, 422, `${JSON.stringify(spec)} ${answer.text}`);
      const paths = (answer.body["errors"] as { path: string }[]).map((one) => one.path);
      assert.ok(paths.includes(path), `${path}: ${answer.text}`);
    }
  // The nearest that passes; and a channel takes no secret that a resource has.
  const passes = await dana.send("PUT", "/v1/resources/leak", http({ inject: inject("own-signing-2") }));
  assert.equal(passes.status, 201, passes.text);
  const desk = { webhook: { url: "https://desk.acme.example/in", secret: "own-signing-2" } };
  const late = await w.operator("PUT", "/v1/channels/own-desk", desk);
  assert.equal(late.status, 422, late.text);
  assert.deepEqual((late.body["errors"] as { path: string }[])[0]?.path, "webhook.secret");
});

/** A request whose body comes in two halves, with something between them, when it was looked at who asks. */
async function inHalves(
  slow: SignedInClient,
  o: { method: string; path: string; type: string; halves: readonly [string, string]; meanwhile(): Promise<unknown> },
): Promise<string> {
  const used = async (): Promise<number> =>
    (await w.db.query<{ at: number }>("select max(used_at) as at from ephor.sessions"))[0]?.at ?? 0;
  w.clock.advance(1);
  const before = await used();
  const sending = request(`${w.url}${o.path}`, {
    method: o.method,
    headers: {
      cookie: slow.cookie,
      "ephor-csrf": slow.csrf,
      origin: new URL(w.server.issuer).origin,
      "content-type": o.type,
      "content-length": o.halves.join("").length,
    },
  });
  const answered = once(sending, "response") as Promise<[IncomingMessage]>;
  sending.write(o.halves[0]);
  const deadline = performance.now() + 10_000;
  while ((await used()) === before) {
    assert.ok(performance.now() < deadline, "it was looked at who asks");
    await new Promise((resolve) => setImmediate(resolve));
  }
  await o.meanwhile();
  sending.end(o.halves[1]);
  const [response] = await answered;
  const body = await text(response);
  const { code = "" } = (body.startsWith("{") ? JSON.parse(body) : {}) as { code?: string };
  return `${response.statusCode} ${code}`;
}

test("what a body brings late is judged again: a session that ended, or an operator who was changed, does nothing any more", async () => {
  const signOut = async (): Promise<unknown> => await w.db.query("delete from ephor.sessions");
  const changes: [string, () => Promise<unknown>, string][] = [
    ["nothing-changed", async () => {}, "200 "],
    ["without-the-role", async () => await put("slow", ["read"]), "403 access_denied"],
    ["signed-out", signOut, "401 invalid_token"],
  ];
  for (const [name, meanwhile, outcome] of changes) {
    await put("slow", ["secrets"]);
    const halves = ['{"value"', ':"x"}'] as const;
    const order = { method: "PUT", path: `/v1/secrets/${name}`, type: "application/json", halves, meanwhile };
    assert.equal(await inHalves(await signedIn(w, "slow"), order), outcome, name);
    assert.equal((await w.operator("GET", order.path)).status, outcome === "200 " ? 200 : 404, name);
  }
  for (const [meanwhile, outcome] of [
    [async () => {}, "303 "],
    [signOut, "403 "],
  ] as const) {
    const slow = await signedIn(w, "slow");
    const form = { method: "POST", path: "/console/sign-out", type: "application/x-www-form-urlencoded" };
    assert.equal(await inHalves(slow, { ...form, halves: ["csrf=", slow.csrf], meanwhile }), outcome);
  }
});
