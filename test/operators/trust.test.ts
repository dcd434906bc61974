/** `operators` of the trust file, by apply and one by one. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { usualTrust, world } from "../support/world.ts";

const w = await world(
  { after },
  {
    trust: (issuers) =>
      `${usualTrust(issuers).replace("identifies: humans,", "identifies: humans, client_id: console,")}
  - { agent: keyed-bot, resource: ephor, actions: [trust] }
operators:
  dana:
    email: dana@acme.example
    sign_in: { issuer: okta, claims: { sub: 00u1ab } }
`,
  },
);
const SAM = { email: "sam@acme.example", sign_in: { issuer: "okta", claims: { sub: "00u2cd" } }, roles: ["read"] };

test("operators come by apply and by PUT, are listed, read and removed, and who did it is recorded", async () => {
  const made = await w.operator("PUT", "/v1/operators/sam", SAM);
  assert.deepEqual([made.status, made.body["spec"], made.body["source"]], [201, SAM, null], made.text);
  const list = await w.operator("GET", "/v1/operators");
  assert.deepEqual(
    (list.body["items"] as { name: string; source: string | null }[]).map(({ name, source }) => [name, source]),
    [
      ["dana", "trust.yaml"],
      ["sam", null],
    ],
  );
  const changed = await w.operator("PUT", "/v1/operators/sam", { ...SAM, groups: ["payments"] });
  assert.equal(changed.status, 200, changed.text);
  const [event] = await w.events({ type: "trust.apply" });
  assert.equal(event?.["agent"], "operator:operator");
  assert.match(JSON.stringify(event), /operators\/sam/);
  const gone = await w.operator("DELETE", "/v1/operators/sam");
  assert.deepEqual([gone.status, gone.body["killed"]], [200, false], gone.text);
  assert.equal((await w.operator("GET", "/v1/operators/sam")).status, 404);
  assert.equal((await w.operator("DELETE", "/v1/operators/dana")).status, 409, "it is the file's");
});

test("what is wrong with an operator is told with its place and a mend, and nothing changes", async () => {
  const problems = async (spec: object): Promise<string[]> => {
    const answer = await w.operator("PUT", "/v1/operators/eve", spec);
    assert.equal(answer.status, 422, answer.text);
    const entries = answer.body["errors"] as { path: string; mend: string }[];
    assert.ok(entries.every(({ mend }) => mend.length > 10));
    return entries.map(({ path }) => path);
  };
  assert.deepEqual(await problems({ email: "eve@acme.example" }), ["sign_in"]);
  assert.deepEqual(await problems({ ...SAM, sign_in: { issuer: "okta", claims: { groups: "admins" } } }), [
    "sign_in.claims.sub",
  ]);
  assert.deepEqual(await problems({ ...SAM, sign_in: { issuer: "cluster", claims: { sub: "x" } } }), [
    "sign_in.issuer",
  ]);
  assert.deepEqual(await problems({ ...SAM, sign_in: { issuer: "okta", claims: { sub: "00u1ab" } } }), [
    "sign_in.claims.sub",
  ]);
  assert.equal((await w.operator("GET", "/v1/operators/eve")).status, 404);
});

test("an agent with the scope ephor:trust changes no operator, by PUT, by DELETE or by apply, and that is recorded", async () => {
  const asAgent = async (method: string, path: string, body?: object) => {
    const token = await w.post("/token", {
      grant_type: "client_credentials",
      client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      client_assertion: w.privateKeyJwt(),
      resource: `${w.server.issuer}/v1`,
      scope: "ephor:trust",
    });
    assert.equal(token.status, 200, token.text);
    return await w.request(method, path, {
      ...(body !== undefined && { body }),
      headers: { authorization: `Bearer ${String(token.body["access_token"])}` },
    });
  };
  await w.operator("PUT", "/v1/operators/sam", SAM);
  const tries: [string, string, object?][] = [
    [
      "PUT",
      "/v1/operators/eve",
      { ...SAM, email: "eve@acme.example", sign_in: { issuer: "okta", claims: { sub: "e" } } },
    ],
    ["PUT", "/v1/operators/sam", { ...SAM, roles: ["kill"] }],
    ["DELETE", "/v1/operators/sam"],
    ["POST", "/v1/apply", { source: "eve.yaml", file: "operators: { eve: { slack: { team: T1234, user: U1234 } } }" }],
  ];
  for (const [method, path, body] of tries) {
    const answer = await asAgent(method, path, body);
    assert.equal(answer.status, 403, `${method} ${path} ${answer.text}`);
    const [event] = await w.events({ type: "trust.apply", decision: "refused" });
    assert.deepEqual([event?.["agent"], event?.["reason"]], ["keyed-bot", "client_not_allowed"]);
  }
  const list = await w.operator("GET", "/v1/operators");
  assert.deepEqual(
    (list.body["items"] as { name: string; spec: object }[]).map(({ name, spec }) => [
      name,
      Object.hasOwn(spec, "roles"),
    ]),
    [
      ["dana", false],
      ["sam", true],
    ],
  );
  // The nearest thing that it may do.
  assert.equal(
    (await asAgent("PUT", "/v1/resources/more", { resource: "https://more.example", actions: ["x"] })).status,
    201,
  );
  await w.operator("DELETE", "/v1/operators/sam");
});
