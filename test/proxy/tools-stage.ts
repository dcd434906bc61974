/** A world with MCP servers whose tools change, and an agent that says what it likes. */
import assert from "node:assert/strict";
import type { Cleanup } from "../support/database.ts";
import { usualTrust, world, type Answer, type World } from "../support/world.ts";
import { startShop, type Shop } from "./tools-upstream.ts";

export interface ToolStage {
  readonly w: World;
  readonly shop: Shop;
  /** One message of the revision without sessions, unless `legacy`. */
  say(
    method: string,
    params?: Record<string, unknown>,
    o?: { resource?: string; url?: string; legacy?: true; headers?: Record<string, string> },
  ): Promise<Answer>;
  /** Names that a list shows. */
  shown(o?: { resource?: string; url?: string; cursor?: string }): Promise<string[]>;
  /** The tool's view by the API. */
  tool(name: string, resource?: string): Promise<Record<string, unknown>>;
  accept(body: Record<string, unknown>, resource?: string): Promise<Answer>;
  /** What a list or call was refused by. @returns the event of the decision that the answer names */
  refusal(answer: Answer): Promise<Record<string, unknown>>;
  events(type: string): Promise<Record<string, unknown>[]>;
}

const VERSION = "2026-07-28";
const META = {
  "io.modelcontextprotocol/protocolVersion": VERSION,
  "io.modelcontextprotocol/clientCapabilities": {},
};

export const GRANTED = "  - { agent: release-bot, resource: shop, actions: [look, buy, steal] }";

export async function toolStage(t: Cleanup, o: { resources?: string; grants?: string } = {}): Promise<ToolStage> {
  const shop = await startShop(t);
  const w = await world(t, {
    trust: (issuers) =>
      usualTrust(issuers).replace(
        "grants:",
        `  shop: { mcp: "${shop.url}" }\n${o.resources ?? ""}\ngrants:\n${GRANTED}\n${o.grants ?? ""}`,
      ),
  });
  const tokens = new Map<string, string>();
  const token = async (resource: string): Promise<string> => {
    let known = tokens.get(resource);
    if (known === undefined) {
      const answer = await w.self("release-bot", { scope: resource, resource: `${w.server.issuer}/mcp/${resource}` });
      assert.equal(answer.status, 200, answer.text);
      known = answer.body["access_token"] as string;
      tokens.set(resource, known);
    }
    return known;
  };
  const stage: ToolStage = {
    w,
    shop,
    async say(method, params = {}, { resource = "shop", url = w.url, legacy, headers = {} } = {}) {
      const meta = { ...META, ...(params["_meta"] as object | undefined) };
      const modern = {
        "mcp-protocol-version": VERSION,
        "mcp-method": method,
        ...(typeof params["name"] === "string" && { "mcp-name": params["name"] }),
      };
      const answer = await w.request("POST", `${url}/mcp/${resource}`, {
        headers: {
          authorization: `Bearer ${await token(resource)}`,
          accept: "application/json, text/event-stream",
          ...(legacy ? {} : modern),
          ...headers,
        },
        body: { jsonrpc: "2.0", id: 1, method, params: { ...params, ...(legacy ? {} : { _meta: meta }) } },
      });
      const [, data] = /^data: (.*)$/m.exec(answer.text) ?? [];
      return data === undefined ? answer : { ...answer, body: JSON.parse(data) as Record<string, unknown> };
    },
    async shown({ cursor, ...at } = {}) {
      const answer = await stage.say("tools/list", cursor === undefined ? {} : { cursor }, at);
      assert.equal(answer.status, 200, answer.text);
      return (answer.body["result"] as { tools: { name: string }[] }).tools.map(({ name }) => name);
    },
    async tool(name, resource = "shop") {
      const answer = await w.operator("GET", `/v1/resources/${resource}/tools?${new URLSearchParams({ tool: name })}`);
      assert.equal(answer.status, 200, answer.text);
      return (answer.body["tools"] as Record<string, unknown>[])[0] ?? {};
    },
    accept: (body, resource = "shop") => w.operator("POST", `/v1/resources/${resource}/tools/accept`, body),
    async refusal(answer) {
      assert.equal(answer.status, 200, answer.text);
      const { code, data } = answer.body["error"] as { code: number; data: { decision: string } };
      assert.equal(code, -32003, answer.text);
      const event = (await w.events()).find(({ id }) => id === data.decision);
      assert.ok(event, "the decision is in the ledger");
      return event;
    },
    events: async (type) => await w.events({ type }),
  };
  return stage;
}

/** Whether a call did something. */
export function isDone(answer: Answer): boolean {
  return answer.status === 200 && answer.body["result"] !== undefined;
}
