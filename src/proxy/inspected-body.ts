import { JsonError, readJson } from "../core/token/json.ts";
import { CutError, DeniedError } from "./exchange.ts";
import type { AnswerInspection } from "./inspection.ts";
import { createEventParser, type SentEvent } from "./mcp/sse.ts";
import { cutOutcome, type Flight } from "./relay.ts";

/** Results may nest deeper than requests, and hold numbers that we need not understand. */
const READ = { maxDepth: 256, allowUnsafeIntegers: true, allowNul: true } as const;
const JSON_TYPE = /^application\/(?:json|[a-z0-9.+-]+\+json)$/;
const TEXT_TYPE = /^(?:text\/.*|application\/(?:xml|x-ndjson|[a-z0-9.+-]+\+xml))$/;
/** Of one event that is taken in to be judged, whatever then becomes of it. */
const EVENT_BYTES = 4 * 1024 * 1024;

/** What goes on of an inspected answer. */
interface InspectedBody {
  readonly body: AsyncIterable<Uint8Array>;
  /** Byte for byte. */
  readonly isAsItCame: boolean;
}

/**
 * The body of an HTTP answer that is inspected: text is held until it was judged, events are judged one by one; what cannot be
 * judged goes on or not, as the resource says.
 *
 * @throws {DeniedError} it does not go on
 */
export async function inspectedBody(
  flight: Flight,
  judge: AnswerInspection,
  answer: { chunks: AsyncGenerator<Uint8Array>; type: string | undefined; isPart: boolean },
): Promise<InspectedBody> {
  const { chunks, type = "", isPart } = answer;
  if (isPart) {
    // Pieces that somebody asks for one by one are judged by nobody as what they make together.
    if (!judge.unjudged("partial")) return await refused(flight, judge, chunks);
    return { body: chunks, isAsItCame: true };
  }
  const media = type.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (media === "text/event-stream") return { body: judgedEvents(flight, judge, chunks), isAsItCame: false };
  const isText = JSON_TYPE.test(media) || TEXT_TYPE.test(media);
  const { held, isWhole } = await holdUpTo(isText ? judge.maxBytes : 0, chunks);
  if (isWhole && held.byteLength === 0) return { body: chunks, isAsItCame: true };
  if (!isText || !isWhole) {
    if (!judge.unjudged(isText ? "too_large" : "no_text")) return await refused(flight, judge, chunks);
    return { body: then(held, chunks), isAsItCame: true };
  }
  const text = textOf(held);
  if (text === undefined || (JSON_TYPE.test(media) && !isJson(held))) {
    if (!judge.unjudged("unreadable")) return await refused(flight, judge, chunks);
    return { body: then(held, chunks), isAsItCame: true };
  }
  const judged = JSON_TYPE.test(media) ? await judge.json(text) : await judge.text(text);
  if (!flight.stream.mayFlow()) throw cutNow(flight);
  if (judged === undefined) return await refused(flight, judge, chunks);
  if (judged.text === text) return { body: then(held, chunks), isAsItCame: true };
  return { body: then(Buffer.from(judged.text, "utf8"), chunks), isAsItCame: false };
}

/** It was cut while somebody looked at it. */
export function cutNow(flight: Flight): CutError {
  const { cut } = flight.stream;
  flight.finish(cut === undefined ? "aborted" : cutOutcome(cut));
  return new CutError("cut");
}

async function refused(
  flight: Flight,
  { decision }: AnswerInspection,
  chunks: AsyncGenerator<Uint8Array>,
): Promise<never> {
  flight.finish("inspection_refused");
  await chunks.return(undefined);
  throw new DeniedError(decision, ANSWER_REFUSED);
}

/** What a caller is told whose call was made. */
export const ANSWER_REFUSED = "The call was made; an inspection refused its answer.";

/** Takes in as much, and a piece more where there is one. */
async function holdUpTo(
  maxBytes: number,
  chunks: AsyncGenerator<Uint8Array>,
): Promise<{ held: Uint8Array; isWhole: boolean }> {
  const parts: Uint8Array[] = [];
  let size = 0;
  while (size <= maxBytes) {
    const { value, done } = await chunks.next();
    if (done === true) return { held: Buffer.concat(parts), isWhole: true };
    parts.push(Buffer.from(value));
    size += value.byteLength;
  }
  return { held: Buffer.concat(parts), isWhole: false };
}

async function* then(first: Uint8Array, rest: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first;
  yield* rest;
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** JSON that every parser reads alike: else the inspector could see another answer than its reader. */
function isJson(bytes: Uint8Array): boolean {
  try {
    readJson(bytes, READ);
    return true;
  } catch (error) {
    if (error instanceof JsonError) return false;
    throw error;
  }
}

async function* judgedEvents(
  flight: Flight,
  judge: AnswerInspection,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const parser = createEventParser(EVENT_BYTES);
  for await (const chunk of chunks) {
    for (const event of parser.push(chunk)) {
      if (event === undefined) {
        yield Buffer.from(":\n\n");
        continue;
      }
      const judged = isJson(Buffer.from(event.data, "utf8"))
        ? await judge.json(event.data)
        : await judge.text(event.data);
      if (!flight.stream.mayFlow()) throw cutNow(flight);
      if (judged === undefined) {
        // Its head has left: the connection shows that the rest does not follow.
        flight.finish("inspection_refused");
        throw new CutError("inspection");
      }
      yield Buffer.from(written(event, judged.text), "utf8");
    }
  }
}

function written({ event, id, retry }: SentEvent, data: string): string {
  const head = [
    ...(event === "message" ? [] : [`event: ${event}`]),
    ...(id === undefined ? [] : [`id: ${id}`]),
    ...(retry === undefined ? [] : [`retry: ${retry}`]),
  ];
  return `${[...head, ...data.split(/\r\n|\r|\n/).map((line) => `data: ${line}`)].join("\n")}\n\n`;
}
