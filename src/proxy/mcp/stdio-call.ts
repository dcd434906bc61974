import type { UpstreamAnswer } from "../../system/egress-upstreams.ts";
import type { DecidedCall } from "../decided.ts";
import { BadGatewayError, type ProxiedRequest } from "../exchange.ts";
import type { Flight } from "../relay.ts";
import { RPC, RpcError, type McpMessage } from "./message.ts";
import type { SessionOwner } from "./sessions.ts";
import { LocalServerError } from "./stdio-error.ts";
import type { LocalServer } from "./stdio-server.ts";
import { noSession, type LocalServers } from "./stdio-servers.ts";

/** A message for a local server, and by whom. */
export interface LocalCall {
  readonly upstream: LocalServer;
  readonly owner: SessionOwner;
  readonly request: ProxiedRequest;
  readonly message: McpMessage;
  readonly era: "modern" | "legacy";
  /** The process's own name of the session. */
  readonly session: string | undefined;
}

/**
 * A legacy message belongs to a session, which `initialize` begins.
 *
 * @throws {RpcError} 400 without one, 404 where its process is not here: the client is to begin anew
 */
export function checkSession(servers: LocalServers, call: Pick<LocalCall, "message" | "era" | "session">): void {
  const { message, era, session } = call;
  const id = message.kind === "request" ? message.id : undefined;
  if (era === "modern") return;
  if (message.method === "initialize" && message.kind === "request") {
    if (session === undefined) return;
    throw new RpcError(RPC.invalidRequest, "A session begins once.", { status: 400, id });
  }
  if (session === undefined) throw new RpcError(RPC.invalidRequest, "Mcp-Session-Id is missing.", { status: 400, id });
  if (!servers.hasSession(session)) throw noSession(message);
}

/** Hands a call to its local server, and the answer back as if it had come over HTTP. @throws {RpcError | BadGatewayError} */
export async function localAnswer(
  servers: LocalServers,
  call: LocalCall,
  at: { flight: Flight; decision: DecidedCall; injected: string | undefined },
): Promise<UpstreamAnswer> {
  const { upstream: local, request, ...rest } = call;
  const { flight, decision, injected } = at;
  const { keys, epoch } = decision;
  const accept = request.headers.filter(([name]) => name.toLowerCase() === "accept").map(([, value]) => value);
  const events = accept.join(",").toLowerCase().includes("text/event-stream");
  const hides = flight.masking.holds;
  try {
    return await flight.leave((signal) =>
      servers.send({ ...rest, local, events, injected, hides, keys, epoch, signal }),
    );
  } catch (error) {
    const cause = error instanceof BadGatewayError ? error.cause : undefined;
    throw cause instanceof LocalServerError && cause.rpc !== undefined ? cause.rpc : error;
  }
}
