import { deniedData, DeniedError, LimitedError } from "../exchange.ts";
import { RPC, RpcError, type McpMessage } from "./message.ts";

/** A no as its caller is told it: a JSON-RPC error for what is denied or not made now; anything else as it is. */
export function rpcOf(error: unknown, message: McpMessage): unknown {
  if (error instanceof LimitedError) return notNow(error, message);
  return error instanceof DeniedError ? denial(error, message) : error;
}

function denial(error: DeniedError, message: McpMessage): RpcError {
  const id = idOf(message);
  return new RpcError(RPC.denied, error.detail, { status: id === undefined ? 400 : 200, id, data: deniedData(error) });
}

function notNow({ status, detail, decision, retryAfterSeconds }: LimitedError, message: McpMessage): RpcError {
  const data = { decision, retry_after: retryAfterSeconds };
  return new RpcError(RPC.denied, detail, { status, id: idOf(message), data, retryAfterSeconds });
}

function idOf(message: McpMessage): string | number | undefined {
  return message.kind === "request" ? message.id : undefined;
}
