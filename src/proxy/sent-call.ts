import type { ExactCall } from "../approvals/content.ts";
import type { ProxiedCall } from "./decided.ts";
import type { McpMessage } from "./mcp/message.ts";
import type { CallContent } from "./recording.ts";

/** What goes upstream of a call, as it was decided on. */
export interface SentCall {
  readonly query?: string | undefined;
  readonly body?: string | AsyncIterable<Uint8Array> | undefined;
  readonly message?: McpMessage;
}

/** What is another where a call's arguments are others. */
export interface ChangedCall {
  readonly args: ProxiedCall["args"];
  readonly exact: () => ExactCall;
  readonly content: () => CallContent;
  readonly sends: SentCall;
}
