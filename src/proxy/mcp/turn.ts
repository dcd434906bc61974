import type { ProxiedCall } from "../decided.ts";
import type { Holder } from "../deps.ts";
import type { ProxiedRequest } from "../exchange.ts";
import type { McpResource, Upstream } from "../upstream.ts";
import type { ToolDeps } from "./judge-tools.ts";
import type { SessionOwner, Sessions } from "./sessions.ts";
import type { LocalServer } from "./stdio-server.ts";
import type { LocalServers } from "./stdio-servers.ts";

/** What MCP needs beside the proxy. */
export interface McpDeps extends ToolDeps {
  readonly sessions: Sessions;
  readonly local: LocalServers;
}

/** A request to an MCP server, and whose it is. */
export interface Turn {
  readonly resource: McpResource;
  readonly upstream: Upstream | LocalServer;
  readonly holder: Holder;
  readonly request: ProxiedRequest;
  readonly owner: SessionOwner;
}

/** A call of which nothing is known yet. */
export function blankCall({ request, resource, holder, upstream }: Turn): ProxiedCall {
  return {
    resource,
    holder,
    requestId: request.presented.requestId,
    actions: [],
    args: {},
    call: { kind: "mcp" },
    facts: {},
    secrets: upstream.inject?.secrets ?? [],
    credential: upstream.inject?.credential,
    whenOver: request.whenOver,
    whenGone: request.whenGone,
  };
}
