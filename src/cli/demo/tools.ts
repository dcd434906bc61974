import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import type { Explanation } from "../../api/decisions.ts";
import { isRecord } from "../../sdk/client/wire.ts";
import { CliFailure } from "../exit-code.ts";
import { createBridge, type Bridge } from "../mcp/bridge.ts";
import { forItself } from "./cast.ts";
import { ask, type Granted, type Scene } from "./scene.ts";
import { DemoFailure } from "./stage.ts";

/** An MCP server from the npm registry: what Ephor starts, and the key that the vault has for it. */
export interface DemoTools {
  /** A program and its arguments. */
  readonly command: readonly [string, ...string[]];
  readonly key: string;
}

/** @throws {CliFailure} it is a development dependency: there in a clone, not in an installed package */
export function findTools(): DemoTools {
  try {
    const program = fileURLToPath(import.meta.resolve("@modelcontextprotocol/server-everything/dist/index.js"));
    return {
      command: [process.execPath, program, "stdio"],
      key: `demo_${randomBytes(18).toString("base64url")}`,
    };
  } catch (error) {
    throw new CliFailure(
      "the demonstration needs @modelcontextprotocol/server-everything, which a clone has after `npm ci`",
      { cause: error },
    );
  }
}

type Reply = Readonly<Record<string, unknown>>;

/** An agent's connection to the server through Ephor. */
export interface ToolSession {
  readonly token: Granted;
  /** Answers with the message, be it a result or an error. */
  call(method: string, params: object): Promise<Reply>;
  /** Resolves with the next word about how far a call has come. */
  progress(): Promise<void>;
  close(): void;
}

/** A granted call, one beyond, and what an operator reads about it. */
export async function callTools(scene: Scene, tools: DemoTools): Promise<ToolSession> {
  const { stage, cast } = scene;
  stage.step(
    "An MCP server from the npm registry, behind Ephor's proxy",
    "@modelcontextprotocol/server-everything, unchanged. Ephor starts it for release-bot, with a key out of the vault.",
  );
  const token = await ask(scene, "release-bot", {
    ...forItself(await cast.ciToken("refs/heads/main")),
    resource: `${cast.issuer}/mcp/everything`,
    scope: "everything",
  });
  const session = connect(scene, token);
  stage.does("release-bot", "initialize, tools/list");
  const begun = await session.call("initialize", {
    protocolVersion: "2025-11-25",
    capabilities: {},
    clientInfo: { name: "ephor-demo", version: "1" },
  });
  if (!isRecord(begun["result"])) throw new DemoFailure("the MCP server did not begin");
  const listed = memberOf(await session.call("tools/list", {}), "tools");
  const names = (Array.isArray(listed) ? listed : []).map((tool) => (isRecord(tool) ? String(tool["name"]) : ""));
  stage.shows(names.join(", "));
  stage.claim(
    "of the server's tools it is shown the three that are granted",
    names.toSorted().join() === ["echo", "get-env", "trigger-long-running-operation"].join(),
  );
  await seeKey(scene, session, tools);
  await seeDenial(scene, session);
  return session;
}

async function seeKey({ stage }: Scene, session: ToolSession, { key }: DemoTools): Promise<void> {
  stage.does("release-bot", "tools/call get-env: the server tells its environment");
  const content = memberOf(await session.call("tools/call", { name: "get-env", arguments: {} }), "content");
  const first: unknown = Array.isArray(content) ? content[0] : undefined;
  const text = isRecord(first) ? String(first["text"]) : "{}";
  const { DEMO_KEY: shown = "", ...rest } = JSON.parse(text) as Record<string, string>;
  stage.shows(`DEMO_KEY=${shown} ${Object.keys(rest).toSorted().join(" ")}`);
  stage.claim(
    "the key is with the server; on its way to the agent it is hidden",
    shown.length === key.length && /^\*+$/.test(shown) && !text.includes(key),
  );
}

async function seeDenial({ stage, api }: Scene, session: ToolSession): Promise<void> {
  stage.does("release-bot", "tools/call get-sum");
  const { error } = await session.call("tools/call", { name: "get-sum", arguments: { a: 1, b: 2 } });
  const data = isRecord(error) ? error["data"] : undefined;
  const decision = isRecord(data) ? String(data["decision"]) : "";
  stage.claim(
    `refused, with the id of the decision: ${decision}`,
    isRecord(error) && error["code"] === -32003 && decision !== "",
  );
  stage.does("operator", `ephor explain ${decision}`);
  const { difference, smallest } = await api.get<Explanation>(`/v1/explain/${encodeURIComponent(decision)}`);
  const grants = smallest.map(
    (one) => `{ agent: ${one.agent}, resource: ${one.resource}, actions: [${one.actions.join(", ")}] }`,
  );
  stage.shows(difference, ...grants);
  stage.claim(
    "it names the smallest grant that would allow it",
    grants.join() === "{ agent: release-bot, resource: everything, actions: [get-sum] }",
  );
}

/** A call that goes on for longer than the demonstration. @returns its end, once it is at work */
export async function callForLong({ stage }: Scene, session: ToolSession): Promise<{ ended: Promise<Reply> }> {
  stage.does("release-bot", "tools/call trigger-long-running-operation: half a minute");
  const progress = session.progress();
  const ended = session.call("tools/call", {
    name: "trigger-long-running-operation",
    arguments: { duration: 30, steps: 300 },
    _meta: { progressToken: "long" },
  });
  await Promise.race([progress, ended]);
  return { ended };
}

/** After the kill. */
export async function seeCut({ stage }: Scene, session: ToolSession, long: { ended: Promise<Reply> }): Promise<void> {
  const { error } = await long.ended;
  const data = isRecord(error) ? error["data"] : undefined;
  stage.claim("its running tool call was cut", isRecord(data) && data["error"] === "interrupted");
  const after = await session.call("tools/call", { name: "echo", arguments: { message: "still here?" } });
  stage.claim("and the next one is not let through", isRecord(after["error"]));
  session.close();
}

/** The bridge of `ephor mcp`, with a token that the story has. */
function connect({ url }: Scene, token: Granted): ToolSession {
  const waiting = new Map<unknown, (message: Reply) => void>();
  let progressed = (): void => {};
  const bridge: Bridge = createBridge({
    url,
    resource: "everything",
    access: { token: async () => token.token, fresh: async () => token.token },
    write(message) {
      const { id, method } = message as { id?: unknown; method?: unknown };
      if (method === "notifications/progress") return progressed();
      waiting.get(id)?.(message as Reply);
      waiting.delete(id);
    },
    say: () => {},
    killed: () => {},
  });
  let lastId = 0;
  return {
    token,
    close: bridge.close,
    progress: () => new Promise((resolve) => (progressed = resolve)),
    call: (method, params) =>
      new Promise((resolve) => {
        const id = ++lastId;
        waiting.set(id, resolve);
        bridge.take(Buffer.from(JSON.stringify({ jsonrpc: "2.0", id, method, params })));
      }),
  };
}

function memberOf({ result }: Reply, name: string): unknown {
  return isRecord(result) ? result[name] : undefined;
}
