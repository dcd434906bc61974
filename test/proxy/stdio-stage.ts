/** A world whose server may start node, resources with local servers, and raw messages to them. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import type { Cleanup } from "../support/database.ts";
import { settled, usualTrust, world, type Answer, type World } from "../support/world.ts";

export const MODERN = "2026-07-28";
export const FILES_KEY = "files-key-value-3e9a51";

/** Canaries of Ephor's own environment, which no local server may see. */
export const CANARIES = {
  CANARY_DATABASE_URL: "postgres://canary",
  AWS_SECRET_ACCESS_KEY: "canary-aws",
  EPHOR_TEST_CANARY: "canary-ephor",
} as const;
Object.assign(process.env, CANARIES);

export const programOf = (name: string): string =>
  fileURLToPath(new URL(`stdio-programs/${name}.mjs`, import.meta.url));
export const packageOf = (path: string): string =>
  fileURLToPath(new URL(`../../node_modules/${path}`, import.meta.url));

export const commandOf = (...args: string[]): string => JSON.stringify([process.execPath, ...args]);

/** Resources are YAML, indented by two. */
export async function stdioWorld(t: Cleanup, o: { resources: string; grants: string }): Promise<World> {
  return await world(t, {
    env: { EPHOR_STDIO_ALLOW: process.execPath },
    trust: (issuers) => usualTrust(issuers).replace("grants:", `${o.resources}\ngrants:\n${o.grants}`),
  });
}

/** A resource with the scripted server, and grants for all its tools. */
export const SCRIPTED = {
  resources: `  scripted:
    mcp: { command: ${commandOf(programOf("scripted"), "modern")} }
    inject: { env: FILES_KEY, value: "{secret:files-key}" }
  old:
    mcp: { command: ${commandOf(programOf("scripted"), "legacy")} }`,
  grants: ["release-bot", "lonely-bot"]
    .flatMap((agent) =>
      ["scripted", "old"].map((name) => `  - { agent: ${agent}, resource: ${name}, actions: ["*"], allow_all: true }`),
    )
    .join("\n"),
};

export async function tokenFor(w: World, resource: string, agent = "release-bot"): Promise<string> {
  const answer = await settled(() =>
    w.self(agent, { scope: resource, resource: `${w.server.issuer}/mcp/${resource}` }),
  );
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
}

export interface RawCall {
  readonly token: string;
  readonly id?: string | number;
  readonly args?: object;
  readonly meta?: object;
  readonly accept?: string;
  readonly signal?: AbortSignal;
}

/** Calls a tool as a client of the revision without sessions does. */
export function callTool(w: World, resource: string, tool: string, o: RawCall): Promise<Answer> {
  return send(w, resource, {
    token: o.token,
    headers: {
      "mcp-protocol-version": MODERN,
      "mcp-method": "tools/call",
      "mcp-name": tool,
      ...(o.accept && { accept: o.accept }),
    },
    ...(o.signal && { signal: o.signal }),
    message: {
      jsonrpc: "2.0",
      id: o.id ?? 1,
      method: "tools/call",
      params: {
        name: tool,
        arguments: o.args ?? {},
        _meta: {
          "io.modelcontextprotocol/protocolVersion": MODERN,
          "io.modelcontextprotocol/clientCapabilities": {},
          ...o.meta,
        },
      },
    },
  });
}

export async function send(
  w: World,
  resource: string,
  o: { token: string; message: object; headers?: Record<string, string>; signal?: AbortSignal },
): Promise<Answer> {
  const response = await fetch(`${w.url}/mcp/${resource}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${o.token}`,
      "content-type": "application/json",
      accept: "application/json",
      ...o.headers,
    },
    body: JSON.stringify(o.message),
    ...(o.signal && { signal: o.signal }),
  });
  const text = await response.text();
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // An event stream.
  }
  return { status: response.status, headers: response.headers, body, text };
}

/** What a tool said. */
export function said(answer: Answer): string {
  const { content } = answer.body["result"] as { content: { text: string }[] };
  return content[0]?.text ?? "";
}

/** What a tool said in JSON. */
export function read<T>(answer: Answer): T {
  assert.equal(answer.status, 200, answer.text);
  return JSON.parse(said(answer)) as T;
}

/** Process ids of local servers that were started so far. */
export function startedPids({ lines }: World): number[] {
  return lines
    .map((line) => JSON.parse(line) as { event: string; pid?: number })
    .filter(({ event }) => event === "local_server_started")
    .map(({ pid }) => pid as number);
}

/** Whether a process runs; one that only waits to be reaped does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
