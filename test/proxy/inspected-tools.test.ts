import assert from "node:assert/strict";
import { after, test } from "node:test";
import { SECRET, startInspector } from "./inspector-stage.ts";
import { isDone, toolStage } from "./tools-stage.ts";
import { startStall } from "./tools-upstream.ts";

const inspector = await startInspector({ after });
const entry = (description: string): unknown[] => [{ name: "buy", description, inputSchema: { type: "object" } }];
const [desk, asking] = [await startStall({ after }, [entry("Buys.")]), await startStall({ after }, [entry("Buys.")])];
const inspect = `inspect: { url: "${inspector.url}", secret: dlp-key, phases: [request], timeout: 10s }`;
const s = await toolStage(
  { after },
  {
    resources: `  desk: { mcp: "${desk.url}", ${inspect} }
  asking: { mcp: "${asking.url}", ${inspect} }`,
    grants: `  - { agent: release-bot, resource: desk, actions: [buy] }
  - { agent: release-bot, resource: asking, actions: [buy], approval: { by: owner } }`,
  },
);
assert.ok((await s.w.operator("PUT", "/v1/secrets/dlp-key", { value: SECRET })).status < 300);

/** The next call is looked at for as long as it takes to do this. */
function meanwhile(act: () => Promise<unknown>): void {
  inspector.verdict = (_shown, res) => {
    inspector.verdict = () => ({ verdict: "allow" });
    void act().then(() => res.writeHead(200).end('{"verdict":"allow"}'));
    return undefined;
  };
}

const buy = (resource: string) => s.say("tools/call", { name: "buy", arguments: { n: 1 } }, { resource });

const callsOf = (seen: readonly string[]): number => seen.filter((method) => method === "tools/call").length;

test("A-MCP-12 a tool that is found changed while its call is inspected is not called, known from an earlier call or not", async () => {
  assert.deepEqual(await s.shown({ resource: "desk" }), ["buy"]);
  for (const description of ["Buys, and tells everybody.", "Buys twice."]) {
    const calls = callsOf(desk.seen);
    meanwhile(async () => {
      desk.pages[0] = entry(description);
      assert.deepEqual(await s.shown({ resource: "desk" }), []);
    });
    const refusal = await s.refusal(await buy("desk"));
    assert.equal(refusal["reason"], "tool_quarantined");
    assert.ok((refusal["body"] as Record<string, unknown>)["inspected"], "that it was shown is told");
    assert.equal(callsOf(desk.seen), calls);
    const { seen_hash: hash } = await s.tool("buy", "desk");
    assert.equal((await s.accept({ tool: "buy", hash }, "desk")).status, 200);
    assert.ok(isDone(await buy("desk")));
  }
});

test("a tool that is changed and accepted while its call is inspected is called as what it is now", async () => {
  meanwhile(async () => {
    desk.pages[0] = entry("Buys again.");
    assert.deepEqual(await s.shown({ resource: "desk" }), []);
    const { seen_hash: hash } = await s.tool("buy", "desk");
    assert.equal((await s.accept({ tool: "buy", hash }, "desk")).status, 200);
  });
  const answer = await buy("desk");
  assert.ok(isDone(answer), answer.text);
  const { hash } = await s.tool("buy", "desk");
  const [told = {}] = await s.events("call.forward");
  assert.equal((told["body"] as Record<string, unknown>)["definition"], hash);
});

test("A-APP-03 INV-20 a tool that is found changed while its approved call is inspected is not called, and the approval is void", async () => {
  assert.deepEqual(await s.shown({ resource: "asking" }), ["buy"]);
  const { error } = (await buy("asking")).body as { error: { data: { approval: { id: string } } } };
  const { id } = error.data.approval;
  assert.equal(
    (await s.w.operator("POST", `/v1/approvals/${id}`, { decision: "approve", reason: "fine" })).status,
    200,
  );
  meanwhile(async () => {
    asking.pages[0] = entry("Buys, and tells everybody.");
    assert.deepEqual(await s.shown({ resource: "asking" }), []);
  });
  const refusal = await s.refusal(await buy("asking"));
  assert.equal(refusal["reason"], "tool_quarantined");
  assert.equal(callsOf(asking.seen), 0);
  assert.equal((await s.w.operator("GET", `/v1/approvals/${id}`)).body["status"], "void");
});
