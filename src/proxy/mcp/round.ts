import type { EpochSeconds } from "../../core/time.ts";
import type { ApprovalNotice, ProxiedAnswer } from "../exchange.ts";
import { RELAYED } from "../forwarded-headers.ts";
import { isRecord, RPC, RpcError, type McpMessage } from "./message.ts";
import type { SessionOwner, Sessions } from "./sessions.ts";

/** By which a state is ours: what a server's own looks like is nobody's business. */
const PREFIX = "ephor-approval.";
/** Our entry among what a client is asked, and among what it answers. */
const ENTRY = "ephor_approval";
/** Methods whose answer may ask for more (MCP 2026-07-28, multi round-trip requests). */
const METHODS = new Set(["tools/call", "prompts/get", "resources/read"]);
/** Characters of what the server's own round left in a message, which our state carries for it. */
const MAX_INNER = 64 * 1024;

/** What a client brings back that was asked to see to an approval. */
export interface Round {
  readonly approval: ApprovalNotice;
  /** Until when the approval stands. */
  readonly expiresAt: EpochSeconds;
  /** Its human went to look. Whatever he did there, only the approval says. */
  readonly isLooking: boolean;
}

interface State {
  readonly approval: ApprovalNotice;
  /** The members of `params` that belong to a round of the server's own. */
  readonly inner: Readonly<Record<string, unknown>>;
}

/** Whether a client of the revision without sessions said that it opens addresses for its human. */
export function opensUrls({ params, method }: McpMessage, capabilitiesKey: string): boolean {
  const meta = params?.["_meta"];
  const capabilities = isRecord(meta) ? meta[capabilitiesKey] : undefined;
  const elicitation = isRecord(capabilities) ? capabilities["elicitation"] : undefined;
  return METHODS.has(method) && isRecord(elicitation) && isRecord(elicitation["url"]);
}

/**
 * The message as it was before we asked its client for something: what is ours in it is taken out, what was the server's is
 * put back. So it is the same call, whatever was answered.
 *
 * @throws {RpcError} −32602 for a state that is not what we sealed for this agent and person at this resource
 */
export function unwrapped(
  sessions: Sessions,
  message: McpMessage,
  owner: SessionOwner,
): { message: McpMessage; round: Round | undefined } {
  const given = message.params?.["requestState"];
  if (message.kind !== "request" || typeof given !== "string" || !given.startsWith(PREFIX))
    return { message, round: undefined };
  const text = sessions.openKeepsake("round", given.slice(PREFIX.length), { owner, session: "" });
  if (text === undefined)
    throw new RpcError(RPC.invalidParams, "requestState is not one of ours.", { status: 400, id: message.id });
  const { approval, inner } = JSON.parse(text) as State;
  const { requestState: _ours, inputResponses, ...rest } = message.params ?? {};
  const said = isRecord(inputResponses) ? inputResponses[ENTRY] : undefined;
  return {
    message: { ...message, params: { ...rest, ...inner } },
    round: {
      approval,
      expiresAt: Math.floor(Date.parse(approval.expires_at) / 1_000),
      isLooking: isRecord(said) && said["action"] === "accept",
    },
  };
}

/**
 * Asks the client of the revision without sessions to have its human see to an approval, and to come again.
 *
 * @returns undefined where a round of the server's own is too long to be carried along
 */
export function inputRequired(
  sessions: Sessions,
  of: { message: McpMessage; owner: SessionOwner; approval: ApprovalNotice; text: string },
): ProxiedAnswer | undefined {
  const { message, owner, approval, text } = of;
  const { requestState, inputResponses } = message.params ?? {};
  const inner = {
    ...(requestState !== undefined && { requestState }),
    ...(inputResponses !== undefined && { inputResponses }),
  };
  if (message.kind !== "request" || JSON.stringify(inner).length > MAX_INNER) return undefined;
  const state = JSON.stringify({ approval, inner } satisfies State);
  const result = {
    resultType: "input_required",
    inputRequests: {
      [ENTRY]: { method: "elicitation/create", params: { mode: "url", message: text, url: approval.uri } },
    },
    requestState: `${PREFIX}${sessions.sealKeepsake("round", state, { owner, session: "" })}`,
  };
  const body = Buffer.from(JSON.stringify({ jsonrpc: "2.0", id: message.id, result }), "utf8");
  return { status: 200, headers: [...RELAYED, ["Content-Type", "application/json"]], body };
}
