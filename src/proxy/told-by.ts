import type { EventDraft } from "../audit/event.ts";
import type { ProxiedCall } from "./decided.ts";

/** Who calls, for whom, where and within what: the same in every event of a call. */
export type ToldBy = Pick<EventDraft, "agent" | "sub" | "txn" | "jti" | "resource" | "requestId" | "traceId">;

/** What every event of a call tells of it. */
export function toldBy({ holder, resource, requestId, traceId }: ProxiedCall): ToldBy {
  const { claims, state } = holder.token;
  const { sub, jti } = claims;
  return { agent: holder.agent.name, sub, txn: state.txn, jti, resource: resource.name, requestId, traceId };
}
