import { InvalidRequestError } from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { JsonError, readJson } from "../core/token/json.ts";
import type { BodyBounds } from "./admission.ts";
import type { ProxiedRequest } from "./exchange.ts";

const JSON_DEPTH = 64;
const JSON_TYPE = /^application\/(?:json|[a-z0-9.+-]+\+json)$/;
/** RFC 9110 §5.6.2. */
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
/** One media type, without its parameters (RFC 9110 §8.3.1). */
const MEDIA_TYPE = new RegExp(`^${TOKEN}/${TOKEN}$`);
/** One of its parameters, or none between two semicolons (RFC 9110 §5.6.6). */
const PARAMETER = new RegExp(`;[ \\t]*(?:(${TOKEN})=(${TOKEN}|"(?:[^"\\\\]|\\\\.)*"))?[ \\t]*`, "y");

/** A body, as it was read for the decision and as it is sent. */
export interface RequestBody {
  readonly body: string | Uint8Array | AsyncIterable<Uint8Array> | undefined;
  /** What was read; undefined: nothing. */
  readonly value?: unknown;
  /** What conditions see of it. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly over?: Reason | undefined;
  /** What an approval binds of it, as JSON text, where that is not the body itself. */
  readonly bound?: string;
}

/** A JSON body as it was judged; any other as it comes. @throws {InvalidRequestError} */
export async function readRequestBody(
  request: ProxiedRequest,
  contentType: string | undefined,
  bounds: BodyBounds,
): Promise<RequestBody> {
  const type = typeOf(request, contentType);
  if (JSON_TYPE.test(type)) return await readJsonBody(request, contentType, bounds);
  const flowing = request.flow(bounds.flowBytes);
  if (flowing !== undefined && type === "") throw malformed("The body has no content type.");
  return { body: flowing, json: {}, over: bounds.over.flow(request.length ?? 0) };
}

/** The media type, in lower case; empty where none is said. @throws {InvalidRequestError} for a compressed body, or no type */
export function typeOf(request: ProxiedRequest, contentType: string | undefined): string {
  if (request.headers.some(([name]) => name.toLowerCase() === "content-encoding"))
    throw new InvalidRequestError({ reason: "content_type", status: 415, help: "The body must not be compressed." });
  const type = (contentType ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  // Of several some servers take the first, and would read as JSON what nobody here has read.
  if (type !== "" && !MEDIA_TYPE.test(type)) throw malformed("The content type is not one media type.");
  return type;
}

/** A JSON body, written anew: what was decided on is what is sent (INV-18). @throws {InvalidRequestError} */
export async function readJsonBody(
  request: ProxiedRequest,
  contentType: string | undefined,
  bounds: BodyBounds,
): Promise<RequestBody> {
  const bytes = await request.read(bounds.readBytes);
  if (bytes.byteLength === 0) return { body: undefined, json: {} };
  if (!isUtf8(contentType ?? ""))
    throw malformed("JSON is UTF-8 (RFC 8259 §8.1), and its content type must not say else.");
  try {
    const value = readJson(bytes, { maxDepth: JSON_DEPTH });
    const json = isRecord(value) ? value : { body: value };
    return { body: JSON.stringify(value), value, json, over: bounds.over.read(bytes.byteLength) };
  } catch (error) {
    if (error instanceof JsonError) throw malformed("The body is no JSON that every parser reads alike.");
    throw error;
  }
}

/**
 * A name in the query and in the body says the same: conditions see the body's, and an upstream may go by the query's (INV-18).
 *
 * @throws {InvalidRequestError}
 */
export function checkSaidOnce(
  parameters: Readonly<Record<string, unknown>>,
  json: Readonly<Record<string, unknown>>,
): void {
  for (const [name, said] of Object.entries(parameters))
    if (Object.hasOwn(json, name) && textOf(json[name]) !== textOf(said))
      throw malformed("A name stands in the query and in the body, with two values.");
}

/** Of a number as of the text that a query has for it. */
function textOf(value: unknown): string {
  if (Array.isArray(value)) return JSON.stringify(value.map(textOf));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Whether a content type leaves no doubt: servers that go by `charset` would read UTF-7, say, as other arguments. */
function isUtf8(contentType: string): boolean {
  const semicolon = contentType.indexOf(";");
  const text = semicolon < 0 ? "" : contentType.slice(semicolon).trim();
  const charsets: string[] = [];
  PARAMETER.lastIndex = 0;
  while (PARAMETER.lastIndex < text.length) {
    const found = PARAMETER.exec(text);
    if (found === null) return false;
    const [, name = "", value = ""] = found;
    // `charset*` is another spelling of the name (RFC 8187).
    if (/^charset(?:\*.*)?$/i.test(name)) charsets.push(value.toLowerCase());
  }
  return charsets.length < 2 && charsets.every((charset) => /^(?:utf-?8|"utf-?8")$/.test(charset));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What two readers could read differently. @param help one of our own sentences */
export function malformed(help: string): InvalidRequestError {
  return new InvalidRequestError({ reason: "malformed_request", help });
}
