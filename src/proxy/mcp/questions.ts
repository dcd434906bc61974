import { isRecord, type McpMessage, type RpcId } from "./message.ts";
import {
  CLIENT_CAPABILITIES,
  type ClientCapability,
  type Session,
  type SessionOwner,
  type Sessions,
} from "./sessions.ts";

/**
 * What a server of the revisions with sessions may ask its client (MCP 2025-11-25), and what the client must have declared.
 * Those revisions have no other way to reach a model or a person in the middle of a call; the newer one has, and there no
 * question passes (A-MCP-14).
 */
const QUESTIONS: ReadonlyMap<unknown, ClientCapability | undefined> = new Map([
  ["ping", undefined],
  ["sampling/createMessage", "sampling"],
  ["elicitation/create", "elicitation"],
  ["roots/list", "roots"],
] as const);

/** By what a server's questions are judged; without it none passes. */
export interface Questions {
  /** Whether the client said that it answers this. */
  readonly may: (method: unknown) => boolean;
  /** The id that the client is asked by: only with it will its answer go back. */
  readonly seal: (id: RpcId) => string;
}

/** The questions that may be asked in a session. */
export function questionsOf(sessions: Sessions, { id: session, declared }: Session, owner: SessionOwner): Questions {
  return {
    may: (method) => mayBeAsked(method, declared),
    seal: (id) => sessions.sealKeepsake("question", JSON.stringify(id), { owner, session }),
  };
}

/** Whether a client that declared this said that it answers that. */
export function mayBeAsked(method: unknown, declared: readonly ClientCapability[]): boolean {
  const needed = QUESTIONS.get(method);
  return QUESTIONS.has(method) && (needed === undefined || declared.includes(needed));
}

/** The upstream's own id of a question; undefined where this session's server did not ask it. */
export function askedIn(
  sessions: Sessions,
  given: RpcId,
  of: { owner: SessionOwner; session: string },
): RpcId | undefined {
  const text = typeof given === "string" ? sessions.openKeepsake("question", given, of) : undefined;
  return text === undefined ? undefined : (JSON.parse(text) as RpcId);
}

/** What a client declares when it begins a session; nothing by any other message. */
export function declaredBy({ method, params }: McpMessage): readonly ClientCapability[] {
  const capabilities = method === "initialize" ? params?.["capabilities"] : undefined;
  if (!isRecord(capabilities)) return [];
  const { elicitation } = capabilities;
  const opensUrls = isRecord(elicitation) && isRecord(elicitation["url"]);
  return CLIENT_CAPABILITIES.filter((one) => (one === "elicitation/url" ? opensUrls : isRecord(capabilities[one])));
}
