import type { Resource } from "../../core/trust/model.ts";
import { renderingOf, type McpResource, type Rendering } from "../upstream.ts";

/** An MCP server that Ephor starts and watches itself (CONTRACT §4, `mcp: {command: […]}`). */
export interface LocalServer {
  /** The program and its arguments, as the trust file has them. */
  readonly command: readonly [string, ...string[]];
  /** The variable of its environment that holds a credential. */
  readonly inject: (Rendering & { readonly env: string }) | undefined;
  /** Headers of callers go nowhere. */
  readonly forward: ReadonlySet<string>;
  /** The same for as long as nothing about its start was changed. */
  readonly print: string;
}

interface Settings {
  readonly mcp?: string | { readonly command: readonly [string, ...string[]] };
  readonly inject?: { readonly env?: string; readonly value: string };
}

const made = new WeakMap<Resource, LocalServer>();

/** @returns undefined for a server that is reached over HTTP */
export function localServerOf(resource: McpResource): LocalServer | undefined {
  const { mcp, inject } = resource.settings as Settings;
  if (typeof mcp !== "object") return undefined;
  let server = made.get(resource);
  if (server === undefined) {
    const { command } = mcp;
    const variable = inject?.env;
    server = {
      command,
      forward: new Set(),
      inject:
        inject === undefined || variable === undefined
          ? undefined
          : // oxlint-disable-next-line no-control-regex -- NUL would end a variable (POSIX)
            { env: variable, ...renderingOf(inject.value, /^[^\u0000]*$/) },
      print: JSON.stringify([command, inject ?? null]),
    };
    made.set(resource, server);
  }
  return server;
}
