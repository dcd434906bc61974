/** What an agent with power over Ephor asked for before a kill of it, and what is not done yet, is not done after it. */
import assert from "node:assert/strict";
import { request as ask } from "node:http";
import { after, test } from "node:test";
import { chainWorld } from "../attacks/chain-world.ts";
import { granted } from "../attacks/refusals.ts";
import { startShop } from "../proxy/tools-upstream.ts";
import { holdGate } from "../support/held-lock.ts";

const w = await chainWorld({ after });
const shop = await startShop({ after });
await w.apply(
  `
resources:
  shop: { mcp: "${shop.url}" }
grants:
  - { agent: triage-bot, resource: shop, actions: [look] }
  - { agent: release-bot, resource: ephor, actions: [restore, trust, secrets] }
`,
  "power.yaml",
);
// Kills come in here, what the agent asks for at another replica: neither waits for the other before the database.
const { url } = await w.replica();

/** The shop's tools are listed, by somebody else. */
async function listed(): Promise<void> {
  const token = granted(await w.self("triage-bot", { scope: "shop", resource: `${w.server.issuer}/mcp/shop` }));
  const answer = await w.request("POST", "/mcp/shop", {
    headers: {
      authorization: `Bearer ${token}`,
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2026-07-28",
      "mcp-method": "tools/list",
    },
    body: {
      jsonrpc: "2.0",
      id: 1,
      method: "tools/list",
      params: {
        _meta: {
          "io.modelcontextprotocol/protocolVersion": "2026-07-28",
          "io.modelcontextprotocol/clientCapabilities": {},
        },
      },
    },
  });
  assert.equal(answer.status, 200, answer.text);
}
await listed();
shop.tools[0] = { name: "look", description: "Looks elsewhere." };
await listed();

interface Change {
  readonly what: string;
  readonly scope: string;
  readonly line: { readonly method: string; readonly path: string };
  readonly body: object;
  /** As what it is recorded. */
  readonly event: string;
}

const changes: readonly Change[] = [
  {
    what: "the restore of itself",
    scope: "restore",
    line: { method: "POST", path: "/v1/restore" },
    body: { agent: "release-bot", reason: "I am good" },
    event: "restore",
  },
  {
    what: "a trust object",
    scope: "trust",
    line: { method: "PUT", path: "/v1/resources/late" },
    body: { credential: { static: { secret: "late-key", disclose: true } } },
    event: "trust.apply",
  },
  {
    what: "a secret's value",
    scope: "secrets",
    line: { method: "PUT", path: "/v1/secrets/late-key" },
    body: { value: "late" },
    event: "secret.set",
  },
  {
    what: "the acceptance of a changed tool",
    scope: "trust",
    line: { method: "POST", path: "/v1/resources/shop/tools/accept" },
    body: { tool: "look" },
    event: "tools.accept",
  },
];

/** A request that was let in, and whose body is not there yet. */
async function letIn({ scope, line }: Change): Promise<{ send: (body: object) => void; answer: Promise<number> }> {
  const token = granted(await w.self("release-bot", { resource: `${w.server.issuer}/v1`, scope: `ephor:${scope}` }));
  const before = (await w.events({ type: "admin.request" })).length;
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const request = ask(`${url}${line.path}`, { method: line.method, headers });
  request.flushHeaders();
  const answer = new Promise<number>((resolve, reject) => {
    request.on("error", reject);
    request.on("response", (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? 0));
    });
  });
  const late = performance.now() + 5_000;
  while ((await w.events({ type: "admin.request" })).length === before)
    assert.ok(performance.now() < late, "it is let in");
  return { send: (body) => void request.end(JSON.stringify(body)), answer };
}

const recorded = async ({ event }: Change, decision: string): Promise<number> =>
  (await w.events({ type: event, agent: "release-bot" })).filter((one) => one["decision"] === decision).length;

for (const change of changes) {
  test(`CONTRACT §2 rule 7 ${change.what} that an agent asked for, and that waits while it is killed, is not done after the kill`, async () => {
    const { send, answer } = await letIn(change);
    const gate = await holdGate(w.databaseUrl);
    const kill = w.kill({ agent: "release-bot" });
    await gate.waiting(1);
    send(change.body);
    await gate.waiting(2);
    await gate.release();
    assert.equal((await kill).status, 200);
    assert.equal(await answer, 401);
    assert.equal(await recorded(change, "granted"), 0, "it was done after the kill");
    assert.equal(await recorded(change, "refused"), 1);
    assert.equal((await w.self("release-bot", { audience: "billing" })).status, 400, "it lives again");
    assert.equal((await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" })).status, 200);
  });

  test(`${change.what} that an agent asked for, and that waits while another is killed, is done`, async () => {
    const { send, answer } = await letIn(change);
    const gate = await holdGate(w.databaseUrl);
    const kill = w.kill({ agent: "watch-bot" });
    await gate.waiting(1);
    send(change.body);
    await gate.waiting(2);
    await gate.release();
    assert.equal((await kill).status, 200);
    assert.equal(Math.floor((await answer) / 100), 2);
    assert.equal(await recorded(change, "granted"), 1);
  });
}
