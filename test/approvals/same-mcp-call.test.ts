import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { isDone, toolStage } from "../proxy/tools-stage.ts";
import { startStall } from "../proxy/tools-upstream.ts";

const desk = await startStall({ after }, [[{ name: "buy", inputSchema: { type: "object" } }]]);
const s = await toolStage(
  { after },
  {
    resources: `  desk: { mcp: "${desk.url}" }`,
    grants: "  - { agent: release-bot, resource: desk, actions: [buy], approval: { by: owner } }",
  },
);

beforeEach(() => void (desk.seen.length = 0));

interface Said {
  /** Members of `params` beside name and arguments. */
  readonly params?: Record<string, unknown>;
  readonly meta?: Record<string, unknown>;
  readonly headers?: Record<string, string>;
}

let n = 0;
const buy = async ({ params, meta, headers }: Said): Promise<{ id: string | undefined; isDone: boolean }> => {
  const said = { name: "buy", arguments: { n }, ...params, ...(meta && { _meta: meta }) };
  const answer = await s.say("tools/call", said, { resource: "desk", ...(headers && { headers }) });
  const { error } = answer.body as { error?: { data?: { approval?: { id: string } } } };
  return { id: error?.data?.approval?.id, isDone: isDone(answer) };
};

/** Has one call approved, and makes another. */
async function used(approved: Said, made: Said): Promise<"as approved" | "asked anew"> {
  n += 1;
  const { id = assert.fail("it was not asked for") } = await buy(approved);
  const yes = await s.w.operator("POST", `/v1/approvals/${id}`, { decision: "approve", reason: "fine" });
  assert.equal(yes.status, 200, yes.text);
  const other = await buy(made);
  assert.ok(other.isDone || (other.id !== undefined && other.id !== id));
  return other.isDone ? "as approved" : "asked anew";
}

test("A-APP-01 INV-20 whatever else stands in a tool's call is bound, however it is called, and shown", async () => {
  for (const name of ["meta", "headers", "kind", "method", "task", "action"]) {
    assert.equal(
      await used({ params: { [name]: { to: "a" } } }, { params: { [name]: { to: "b" } } }),
      "asked anew",
      name,
    );
    assert.equal(await used({}, { params: { [name]: { to: "b" } } }), "asked anew", name);
  }
  const { id } = await buy({ params: { method: "ping", kind: "http", meta: "m", headers: "h", _meta2: 1 } });
  const { body } = await s.w.operator("GET", `/v1/approvals/${id}`);
  const call = body["call"] as Record<string, unknown>;
  assert.deepEqual([call["kind"], call["method"], call["name"]], ["mcp", "tools/call", "buy"]);
  assert.deepEqual(call["params"], { method: "ping", kind: "http", meta: "m", headers: "h", _meta2: 1 });
});

test("A-APP-01 INV-20 headers that repeat arguments to an intermediary reach the server, and are bound and shown", async () => {
  const said = (repo: string): Said => ({ headers: { "mcp-param-repo": repo } });
  assert.equal(await used(said("a/b"), said("c/d")), "asked anew");
  assert.equal(await used({}, said("c/d")), "asked anew");
  assert.equal(await used(said("e/f"), said("e/f")), "as approved");
  const { id } = await buy(said("g/h"));
  const { body } = await s.w.operator("GET", `/v1/approvals/${id}`);
  const { headers } = body["call"] as { headers: Record<string, string> };
  assert.equal(headers["mcp-param-repo"], "g/h");
});

test("A-APP-01 INV-20 of `_meta` only what the protocol keeps for itself is left out", async () => {
  for (const name of ["com.example.mcp/tenant", "a.b.modelcontextprotocol/to", "mcp/x", "x.mcp.y.z/to"]) {
    const [a, b] = [{ meta: { [name]: "a" } }, { meta: { [name]: "b" } }];
    assert.equal(await used(a, b), name.startsWith("x.mcp.") ? "as approved" : "asked anew", name);
  }
  const by = (version: string): Said => ({ meta: { "io.modelcontextprotocol/clientInfo": { name: "c", version } } });
  assert.equal(await used(by("1"), by("2")), "as approved");
});

test("a server that is reached over HTTP finds no approval in `_meta` that its agent put there", async () => {
  const claim = { meta: { "ephor/approval": "eyJ", "acme/x": 1 } };
  assert.equal(await used(claim, claim), "as approved");
  const { _meta } = desk.params.at(-1) as { _meta: Record<string, unknown> };
  assert.deepEqual([_meta["acme/x"], _meta["ephor/approval"]], [1, undefined]);
});
