import assert from "node:assert/strict";
import { after, test } from "node:test";
import { parse } from "yaml";
import { run } from "../support/replicas.ts";
import { eventsOf, stage } from "./stage.ts";

const { w, crm, token, send } = await stage(
  { after },
  {
    grants: `
  - { agent: release-bot, resource: crm, actions: [read], when: 'args.page == "1"' }
  - { agent: summary-bot, resource: billing, actions: [read_invoice] }`,
  },
);

/** The command line, as an operator runs it. */
async function ephor(...args: string[]): Promise<{ code: number | string; out: string }> {
  const { ended, out } = run(args, {
    PATH: process.env["PATH"],
    HOME: w.data,
    EPHOR_URL: w.url,
    EPHOR_OPERATOR_KEY: w.operatorKey,
  });
  return { code: await ended, out: out() };
}

test("a refused call is explained by its decision: inputs, grant by grant, the difference, the smallest grant", async () => {
  const access = await token("crm:read");
  const refused = await send("GET", "/http/crm/contacts/7?page=2", { token: access });
  assert.equal(refused.status, 403);
  const { decision } = JSON.parse(refused.text) as { decision: string };
  const answer = await w.operator("GET", `/v1/explain/${decision}`);
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(answer.body["considered"], [
    { agent: "release-bot", grant: "release-bot-crm", verdict: "condition_false" },
  ]);
  assert.match(String(answer.body["difference"]), /release-bot-crm came nearest, but its condition is not true/);
  // More permission is not what it lacks.
  assert.deepEqual(answer.body["smallest"], []);
  assert.equal(answer.body["changed"], false);

  const beyond = await send("DELETE", "/http/crm/contacts/7", { token: access });
  const second = JSON.parse(beyond.text) as { decision: string };
  const { code, out } = await ephor("explain", second.decision);
  assert.equal(code, 0);
  assert.match(out, /refused \(scope_not_granted\)/);
  assert.match(out, /\{ agent: release-bot, resource: crm, actions: \["remove"\] \}/);
  assert.equal((await w.operator("GET", "/v1/explain/evt_01M7ZM7Q80X47A6RBX6CE9753X")).status, 404);
  assert.equal((await w.request("GET", `/v1/explain/${decision}`)).status, 401);
});

test("what a resource that observes lets through is recorded, listed and turned into grants; everything else refuses as ever", async () => {
  const spec = (mode: string): string => `
resources:
  seen:
    http: ${crm.url}
    actions: { read: ["GET /contacts/**"], write: ["POST /contacts"] }
    ${mode}
grants:
  - { agent: release-bot, resource: seen, actions: [read] }`;
  await w.apply(spec("mode: { observe: true, until: 2026-12-01 }"), "seen.yaml");
  const json = { "content-type": "application/json" };
  const access = await token("seen:read seen:write", { resource: "http/seen" });
  assert.equal((await send("GET", "/http/seen/contacts/1", { token: access })).status, 200);
  assert.equal((await send("POST", "/http/seen/contacts", { token: access, headers: json, body: "{}" })).status, 200);
  // A known agent without any grant may ask for a token there, and call.
  const stranger = await token("seen:read", { resource: "http/seen", agent: "lonely-bot" });
  assert.equal((await send("GET", "/http/seen/contacts/1", { token: stranger })).status, 200);
  const [event] = await eventsOf(w, "call.forward");
  assert.equal(event?.["decision"], "granted");
  const { body = {} } = (event ?? {}) as { body?: Record<string, unknown> };
  assert.equal(body["would_refuse"], "scope_not_granted");
  // Strict reading is never suspended, nor is the token.
  assert.equal((await send("GET", "/http/seen/contacts/%2e%2e", { token: access })).status, 400);
  assert.equal((await send("GET", "/http/seen/contacts/1")).status, 401);

  const { code, out } = await ephor("audit", "--would-refuse");
  assert.equal(code, 0, out);
  assert.match(out, /1 {2}release-bot for agent\|release-bot: seen:write \(scope_not_granted\)/);
  const grants = out.slice(out.indexOf("grants:"));
  assert.match(grants, /agent: lonely-bot, resource: seen, actions: \["read"\]/);
  assert.ok(!grants.includes("on_behalf_of"));
  // All of what is printed reads as a trust file.
  assert.deepEqual(Object.keys(parse(out) as object), ["grants"], out);
  // What is proposed is ready to apply, and enough.
  await w.apply(`${spec("mode: enforce")}\n${grants.split("\n").slice(1).join("\n")}`, "seen.yaml");
  const enforced = await token("seen:read seen:write", { resource: "http/seen" });
  assert.equal((await send("POST", "/http/seen/contacts", { token: enforced, headers: json, body: "{}" })).status, 200);
  assert.equal(
    (await w.self("summary-bot", { scope: "seen:read", resource: `${w.server.issuer}/http/seen` })).status,
    400,
  );
});
