/**
 * What a resource keeps of its calls (CONTRACT §8): redacted, bounded, sealed to the event that it belongs to. The ledger gets a
 * commitment only, so that what is kept can be erased and the ledger still verifies.
 */
import { createHmac } from "node:crypto";
import type { EventValue } from "../audit/event.ts";
import type { Keeping, KeptRow } from "../audit/keeping.ts";
import { InvalidRequestError } from "../core/oauth/errors.ts";
import { nestsDeeperThan, redact } from "../core/redaction.ts";
import { recordRuleOf, type RecordRule } from "../core/trust/record-schema.ts";
import { randomToken } from "../system/random.ts";
import type { Envelope } from "../vault/envelope.ts";
import type { Place } from "../vault/place.ts";
import type { SealedColumn } from "../vault/rewrap.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import type { ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";
import type { ProxiedRequest } from "./exchange.ts";

const LIMITS = {
  /** Of arguments, as JSON. They are kept whole or the call is not made: what could be cut off could be hidden there. */
  argumentBytes: 128 * 1024,
  /** Of an answer; what is longer is cut, and says so. */
  answerBytes: 64 * 1024,
  /** Of an answer that is held to be redacted; a longer one cannot be, and is not kept where paths are to be redacted. */
  heldBytes: 256 * 1024,
  /** Of the salt: nobody tries all of 2^256. */
  saltBytes: 32,
} as const;

/** The arguments of a call, for whoever keeps or inspects them. JSON values. */
export interface CallContent {
  /** Of HTTP `query` and `body`, of MCP the tool's arguments or the other `params`. */
  readonly arguments: unknown;
  /** The media type of a body that was not read; its call cannot be kept. */
  readonly unread?: string | undefined;
  /** The caller's own token: hidden wherever it stands. */
  readonly bearer: string | undefined;
}

/** The token that a request came with. */
export function bearerOf({ presented }: Pick<ProxiedRequest, "presented">): string | undefined {
  return presented.authorization?.split(" ")[1];
}

/** What is kept beside an event, and what the event says of it. */
export interface Kept {
  readonly facts: Readonly<Record<"kept", EventValue>>;
  readonly keeping: Keeping;
}

/** What lies in a recording's seal. */
export interface SealedContent {
  /** Keys the commitment. */
  readonly salt: string;
  /** JSON: `{"arguments": …}` or `{"answer": …}`; the beginning of it where it was cut. */
  readonly text: string;
}

/** What the ledger has of a content: without the salt, which is sealed with it, nobody can try texts on it. */
export function commitmentTo({ salt, text }: SealedContent): string {
  return createHmac("sha256", Buffer.from(salt, "base64url")).update(text, "utf8").digest("base64url");
}

/** Where a recording belongs: it opens for its own event and nowhere else. */
export function recordingPlace(event: string): Place {
  return { table: "recordings", row: event, version: 1, purpose: "content" };
}

/** Every recording that was not erased. */
export const RECORDING_COLUMN: SealedColumn = {
  sort: "recording",
  table: "ephor.recordings",
  column: "sealed",
  kek: "kek",
  id: "event",
  facts: {},
  place: ({ id }) => recordingPlace(id),
  label: ({ id }) => id,
};

/**
 * The arguments of a call, ready to be kept with its decision.
 *
 * @returns undefined where its resource, as it is now, keeps none
 * @throws {InvalidRequestError} `content_type`, `body_too_large`: they cannot be kept, so the call is not made
 */
export function argumentsKept(deps: ProxyDeps, order: ProxiedCall): Kept | undefined {
  const rule = ruleNow(deps, order);
  const content = rule && order.content?.();
  if (rule === undefined || content === undefined) return undefined;
  if (content.unread !== undefined)
    throw new InvalidRequestError({
      reason: "content_type",
      status: 415,
      help: "This resource records its calls: a call must have a JSON body, or none.",
    });
  const { value, count } = redact({ arguments: content.arguments }, rule.redact);
  const text = withoutBearer(JSON.stringify(value), content.bearer);
  if (Buffer.byteLength(text) > LIMITS.argumentBytes)
    throw new InvalidRequestError({
      reason: "body_too_large",
      status: 413,
      help: `This resource records its calls: arguments may have ${LIMITS.argumentBytes / 1024} KiB.`,
    });
  return kept(deps, order, { rule, part: "arguments", text, facts: { redacted: count || undefined } });
}

/** The same of a call that is refused anyway, for whatever reason: what cannot be kept is not. */
export function refusedKept(deps: ProxyDeps, order: ProxiedCall): Kept | undefined {
  try {
    return argumentsKept(deps, order);
  } catch (error) {
    if (error instanceof InvalidRequestError) return undefined;
    throw error;
  }
}

/** Looks on while an answer flows by, masked as its reader gets it. */
export interface AnswerTap {
  /** The whole of a message that was read. */
  message(text: string): void;
  /** A body that flows. */
  through(body: AsyncIterable<Uint8Array>, contentType: string | undefined): AsyncIterable<Uint8Array>;
  /** What came, ready to be kept with the outcome; undefined for nothing. */
  kept(): Kept | undefined;
}

/**
 * @param decision of the call
 * @returns undefined where no answer is kept
 */
export function answerTap(deps: ProxyDeps, order: ProxiedCall, decision: string): AnswerTap | undefined {
  const rule = ruleNow(deps, order);
  if (rule?.what !== "bodies" || order.content === undefined) return undefined;
  let heard: { value: unknown } | undefined;
  let flowing: Flowing | undefined;
  return {
    message: (text) => void (heard = { value: answerOf(text) }),
    through(body, contentType) {
      flowing = { type: mediaTypeOf(contentType), chunks: [], held: 0, bytes: 0 };
      return watched(body, flowing);
    },
    kept() {
      const found = heard ?? (flowing && read(flowing, rule));
      if (found === undefined) return undefined;
      const { value, count } = redact({ answer: found.value }, rule.redact);
      const whole = Buffer.from(withoutBearer(JSON.stringify(value), order.content?.().bearer), "utf8");
      const isCut = whole.byteLength > LIMITS.answerBytes || (flowing?.bytes ?? 0) > (flowing?.held ?? 0);
      // An unfinished character at the end is left out.
      const text = new TextDecoder().decode(whole.subarray(0, LIMITS.answerBytes), { stream: true });
      const facts = { redacted: count || undefined, cut: isCut || undefined };
      return kept(deps, order, { rule, part: "answer", text, facts, of: decision });
    },
  };
}

/** A body that was looked at, as far as it was held. */
interface Flowing {
  readonly type: string;
  readonly chunks: Uint8Array[];
  held: number;
  bytes: number;
}

async function* watched(body: AsyncIterable<Uint8Array>, flowing: Flowing): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    flowing.bytes += chunk.byteLength;
    const part = chunk.subarray(0, LIMITS.heldBytes - flowing.held);
    if (part.byteLength > 0) flowing.chunks.push(Buffer.from(part));
    flowing.held += part.byteLength;
    yield chunk;
  }
}

const JSON_TYPE = /^application\/(?:json|[a-z0-9.+-]+\+json)$/;
const TEXT_TYPE = /^(?:text\/.*|application\/(?:xml|x-ndjson|[a-z0-9.+-]+\+xml))$/;

/** The value of a body: JSON as what it is, text as text; where paths are to be redacted only what they can be found in. */
function read({ type, chunks, held, bytes }: Flowing, { redact: paths }: RecordRule): { value: unknown } | undefined {
  if (bytes === 0) return undefined;
  const isWhole = held === bytes;
  const text = new TextDecoder().decode(Buffer.concat(chunks), { stream: !isWhole });
  if (isWhole && JSON_TYPE.test(type)) {
    try {
      const value = JSON.parse(text) as unknown;
      // What nobody could write again must not keep its call from being recorded: as text, then.
      if (!nestsDeeperThan(value)) return { value };
    } catch {
      // It says that it is JSON, and is not: likewise.
    }
  }
  const isText = JSON_TYPE.test(type) || TEXT_TYPE.test(type);
  if (isText && paths.length === 0) return { value: text };
  return { value: { unkept: isText ? "not to be redacted" : "no text", type, bytes } };
}

/** `result` or `error` of a JSON-RPC message. */
function answerOf(text: string): unknown {
  const { result, error } = JSON.parse(text) as { result?: unknown; error?: unknown };
  return error === undefined ? { result } : { error };
}

function mediaTypeOf(header: string | undefined): string {
  return header?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/** As it is now: it may have changed since the call came in. */
function ruleNow(deps: ProxyDeps, { resource }: ProxiedCall): RecordRule | undefined {
  const now = deps.trust().resourceByName(resource.name);
  return now && recordRuleOf(now);
}

function withoutBearer(text: string, bearer: string | undefined): string {
  return bearer === undefined || bearer === "" ? text : text.replaceAll(bearer, () => "*".repeat(bearer.length));
}

function kept(
  deps: ProxyDeps,
  { holder, resource }: ProxiedCall,
  of: {
    rule: RecordRule;
    part: KeptRow["part"];
    text: string;
    facts: Readonly<Record<string, EventValue>>;
    of?: string;
  },
): Kept {
  const { rule, part, text } = of;
  const content: SealedContent = { salt: randomToken(LIMITS.saltBytes), text };
  const keptAt = deps.clock.now();
  const until = keptAt + rule.keepSeconds;
  const facts = { part, commitment: commitmentTo(content), bytes: Buffer.byteLength(text), ...of.facts, until };
  return {
    facts: { kept: facts },
    keeping: async (event) => ({
      event,
      of: of.of ?? event,
      part,
      txn: holder.token.state.txn,
      resource: resource.name,
      sealed: await sealed(deps.envelope, event, content),
      kept_at: keptAt,
      until,
    }),
  };
}

async function sealed(envelope: Pick<Envelope, "seal">, event: string, content: SealedContent): Promise<object> {
  const value = SecretBytes.fromText(JSON.stringify(content));
  try {
    return await envelope.seal(value, recordingPlace(event));
  } finally {
    value.wipe();
  }
}
