import { KilledError, outcomeOf } from "../../sdk/client/outcome.ts";
import { patiently } from "../../sdk/client/patience.ts";
import { callOpen, isRecord, type WireRequest } from "../../sdk/client/wire.ts";
import { CliFailure } from "../exit-code.ts";
import type { Access } from "./access.ts";
import { errorMessage, RPC, type RpcId } from "./message.ts";

/** Longest answer that is no stream, and longest event of one, in bytes; the proxy relays less. */
export const ANSWER_BYTES = 8 * 1024 * 1024;

/** Where messages go. */
export interface Destination {
  /** The server's URL. */
  readonly url: string;
  readonly resource: string;
  readonly access: Access;
}

/**
 * Sends one request to the proxied resource. A token that is not taken is replaced once: nothing was done yet.
 *
 * @throws {EphorError}
 */
export async function post(
  { url, resource, access }: Destination,
  request: Pick<WireRequest, "method" | "headers" | "json">,
  signal: AbortSignal,
): Promise<Response> {
  const send = async (token: string): Promise<Response> => {
    const headers = {
      accept: "application/json, text/event-stream",
      ...request.headers,
      authorization: `Bearer ${token}`,
    };
    return await patiently("unsent", () => callOpen(url, { ...request, path: `/mcp/${resource}`, headers }, signal));
  };
  const token = await access.token();
  const response = await send(token);
  if (response.status !== 401) return response;
  await response.body?.cancel();
  return await send(await access.token(token));
}

/** Longest wait for the server to say whether it serves a resource, in milliseconds. */
const LOOK_MS = 10_000;

/**
 * A token for a resource says nothing of whether it can be called here: only that its name is served does.
 *
 * @throws {CliFailure} there is no MCP resource of this name
 * @throws {EphorError} the server is away
 */
export async function requireServed({ url, resource }: Pick<Destination, "url" | "resource">): Promise<void> {
  const request = { method: "GET", path: `/mcp/${resource}` } as const;
  const response = await patiently("always", () => callOpen(url, request, AbortSignal.timeout(LOOK_MS)));
  await response.body?.cancel();
  if (response.status === 404)
    throw new CliFailure(`${resource} is no MCP resource of this server (mcp: in the trust file); ephor resources`);
}

/** Whether the work was stopped: what was asked for has broken off. */
export async function wasKilled(access: Access): Promise<KilledError | undefined> {
  try {
    await access.fresh();
    return undefined;
  } catch (error) {
    return error instanceof KilledError ? error : undefined;
  }
}

/** What a client is told of work that was stopped. */
export function killedMessage(id: RpcId, { what, message }: KilledError): object {
  return errorMessage(id, { code: RPC.killed, message: `Ephor: ${message}.`, data: { error: "killed", what } });
}

/** What a client is told of a request that got no answer of the resource's. */
export function failedMessage(id: RpcId, thrown: unknown): object {
  const outcome = outcomeOf(thrown);
  const message = outcome === undefined ? "the bridge failed" : `${outcome.message} (${outcome.code})`;
  const data = outcome && { error: outcome.code, ...(outcome.requestId && { request_id: outcome.requestId }) };
  return errorMessage(id, { code: RPC.internal, message: `Ephor: ${message}`, ...(data && { data }) });
}

/** What a client is told of an answer that is no message: a refusal or a failure of the server's own. */
export function refusedMessage(id: RpcId, status: number, json: unknown): object {
  const body = isRecord(json) ? json : {};
  const code = textOf(body["error"]) ?? textOf(body["code"]) ?? `http_${status}`;
  const detail = textOf(body["error_description"]) ?? textOf(body["detail"]) ?? textOf(body["title"]);
  const requestId = textOf(body["request_id"]);
  return errorMessage(id, {
    code: RPC.internal,
    message: `Ephor: ${detail ?? code} (${status})`,
    data: { error: code, status, ...(requestId !== undefined && { request_id: requestId }) },
  });
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value.slice(0, 1_000) : undefined;
}

/** The body of an answer as it comes; empty where there is none. */
export async function* bodyOf({ body }: Response): AsyncGenerator<Uint8Array> {
  for await (const chunk of body ?? []) yield chunk as Uint8Array;
}

/** Lower-case, without parameters. */
export function contentType({ headers }: Response): string {
  return (headers.get("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/** The body of an answer, whole. @returns undefined for what is no JSON, or too long */
export async function readAnswer(response: Response): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of bodyOf(response)) {
    size += chunk.byteLength;
    if (size > ANSWER_BYTES) return undefined;
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    return undefined;
  }
}
