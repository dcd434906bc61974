import { isRpcId, type RpcId } from "./message.ts";
import type { SessionOwner, Sessions } from "./sessions.ts";

/** An event of a stream, and the request whose answer that stream brings: by it the rest is judged when it is resumed. */
export interface ResumedEvent {
  /** The upstream's name. */
  readonly event: string;
  /** None: a stream of the session's own. */
  readonly request?: { readonly id: RpcId; readonly method: string; readonly action: string };
}

/** The name that a client gets. */
export function sealEvent(
  sessions: Sessions,
  { event, request }: ResumedEvent,
  of: { owner: SessionOwner; session: string },
): string {
  const parts = request ? [event, request.id, request.method, request.action] : [event];
  return sessions.sealKeepsake("event", JSON.stringify(parts), of);
}

/** @returns undefined for a name that no event of this session and owner has */
export function openEvent(
  sessions: Sessions,
  given: string,
  of: { owner: SessionOwner; session: string },
): ResumedEvent | undefined {
  const text = sessions.openKeepsake("event", given, of);
  if (text === undefined) return undefined;
  const [event = "", id, method, action] = JSON.parse(text) as [string?, RpcId?, string?, string?];
  if (!isRpcId(id) || method === undefined || action === undefined) return { event };
  return { event, request: { id, method, action } };
}
