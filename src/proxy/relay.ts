import type { EventValue } from "../audit/event.ts";
import type { Keeping } from "../audit/keeping.ts";
import { InvalidRequestError, InvalidTokenError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { isCanaryResource } from "../core/trust/canary.ts";
import { Cutting, type CutSignal } from "../system/cutting.ts";
import { EgressError } from "../system/egress-error.ts";
import type { UpstreamAnswer, UpstreamOrder } from "../system/egress-upstreams.ts";
import type { CutReason, StreamHandle } from "../authz/streams.ts";
import { destinationOf } from "./admission.ts";
import type { DecidedCall, ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";
import {
  BadGatewayError,
  CutError,
  UpstreamFailure,
  type ProxiedRequest,
  type RelayedBody,
  type WholeBody,
} from "./exchange.ts";
import { answerInspection, type AnswerInspection } from "./inspection.ts";
import { openedCredential } from "./opened-credential.ts";
import { createMasking, type Masking } from "./masking.ts";
import { spellingsOf } from "./spellings.ts";
import { answerTap, type AnswerTap } from "./recording.ts";
import { toldBy } from "./told-by.ts";
import type { Rendering } from "./upstream.ts";

/** Where a flight goes, and with what; whose sockets it takes is its own to know. */
type FlightOrder = Omit<UpstreamOrder, "signal" | "pool">;

/** A call that is on its way: what may flow back, and where its end is recorded. */
export interface Flight {
  readonly stream: StreamHandle;
  readonly masking: Masking;
  /** Looks on where the answer is kept. */
  readonly tap: AnswerTap | undefined;
  /** Judges the answer where it is inspected. */
  readonly judge: AnswerInspection | undefined;
  /** Fires when the call is cut, or its caller is gone. */
  readonly signal: CutSignal;
  /** Sends it over HTTP, once. @param signed headers that are made right then @throws {BadGatewayError | CutError} */
  send(order: FlightOrder, signed?: () => Promise<UpstreamOrder["headers"]>): Promise<UpstreamAnswer>;
  /** Lets it leave in another way, once. @throws {BadGatewayError | CutError} */
  leave(by: (signal: CutSignal) => Promise<UpstreamAnswer>): Promise<UpstreamAnswer>;
  /** The end; only the first counts. */
  finish(outcome: string, facts?: Readonly<Record<string, EventValue>>): void;
  /** The end, where we failed: nothing of the answer goes on, and the upstream's work ends. Without effect after another end. */
  failed(): void;
}

/**
 * What is done with a flight until its answer is handed on: whatever that throws ends the flight, so that no stream is kept and no
 * call stays without an outcome.
 */
export async function flying<T>(flight: Flight, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    flight.failed();
    throw error;
  }
}

/**
 * Opens what the upstream's credential needs and makes the call ready to leave. From here on a kill, the token's end or the
 * loss of this replica's lease cut it.
 *
 * @returns the value to be injected, beside the flight
 * @throws {InvalidTokenError} killed meanwhile; {TemporarilyUnavailableError} the permit lapsed, or a secret cannot be opened
 */
export async function takeOff(
  deps: ProxyDeps,
  at: { call: ProxiedCall; decided: DecidedCall; inject: Rendering | undefined; whenGone: ProxiedRequest["whenGone"] },
): Promise<{ flight: Flight; injected: string | undefined }> {
  const { call, decided, inject, whenGone } = at;
  const cutting = new Cutting();
  const stream = deps.streams.open({
    keys: decided.keys,
    epoch: decided.epoch,
    exp: call.holder.token.claims.exp,
    onCut: () => cutting.abort(),
  });
  try {
    const { injected, spellings } = await opened(deps, decided, inject);
    const masking = createMasking(spellings);
    const judge = await answerInspection(deps, { call, decided, signal: cutting });
    const flight = flightOf(deps, { call, decided, stream, masking, judge, cutting });
    whenGone(() => cutting.abort());
    return { flight, injected };
  } catch (error) {
    stream.close();
    deps.authorizer.withheld(decided.permit);
    throw error;
  }
}

async function opened(
  deps: ProxyDeps,
  decided: DecidedCall,
  inject: Rendering | undefined,
): Promise<{ injected: string | undefined; spellings: readonly string[] }> {
  if (inject === undefined) return { injected: undefined, spellings: [] };
  if (decided.credential !== undefined) return openedCredential(decided.credential);
  const texts = new Map<string, string>();
  for (const name of inject.secrets) {
    const permit = decided.opens.get(name);
    if (permit === undefined) throw new TemporarilyUnavailableError({ reason: "stale_trust", secret: name });
    const { value, version } = await deps.secrets
      .open(permit, name, decided.sealed.get(name))
      .catch((cause: unknown) => {
        deps.log.warn("proxy_secret_not_opened", { resource: name, err: cause });
        throw new TemporarilyUnavailableError({ reason: "decrypt_failed", secret: name }, { cause });
      });
    const approved = decided.approval?.secrets.find((secret) => secret.name === name);
    if (approved !== undefined && approved.version !== version) {
      // Rotated since the gate looked: what was approved went with another credential (INV-20).
      value.wipe();
      throw new TemporarilyUnavailableError({ reason: "approval_void", secret: name });
    }
    texts.set(
      name,
      value.use((bytes) => Buffer.from(bytes).toString("utf8")),
    );
    value.wipe();
  }
  const injected = inject.render((name) => texts.get(name) ?? "");
  if (!inject.fits(injected))
    throw new TemporarilyUnavailableError({ reason: "decrypt_failed", problem: "does not fit where it goes" });
  return { injected, spellings: [...texts.values(), injected].flatMap(spellingsOf) };
}

/** What a flight is made of. */
interface Aloft extends Pick<Flight, "stream" | "masking" | "judge"> {
  readonly call: ProxiedCall;
  readonly decided: DecidedCall;
  readonly cutting: Cutting;
}

function flightOf(deps: ProxyDeps, at: Aloft): Flight {
  const { call, decided, stream, masking, judge, cutting } = at;
  const startedMs = deps.clock.monotonicMs();
  let isOver = false;
  let hasLeft = false;
  let status: number | undefined;
  const tap = answerTap(deps, call, decided.eventId);

  function finish(how: string, facts: Readonly<Record<string, EventValue>> = {}): void {
    if (isOver) return;
    const outcome = how === "done" && judge?.isAnswerRefused === true ? "inspection_refused" : how;
    isOver = true;
    stream.close();
    const ms = Math.round(deps.clock.monotonicMs() - startedMs);
    const resource = call.resource.name;
    // What the canary calls has numbers of its own.
    if (!isCanaryResource(resource)) {
      deps.metrics.proxiedCalls.inc({ resource, outcome });
      deps.metrics.proxiedSeconds.observe({ resource }, ms / 1_000);
    }
    const hid = masking.hasHidden || undefined;
    const kept = tap?.kept();
    const more = { ...facts, ...judge?.facts(), ...kept?.facts };
    const told = { of: decided.eventId, action: decided.action, outcome, status, ms, hid, ...more };
    note(deps, call, told, kept?.keeping);
  }

  /** It was granted and goes nowhere. */
  function stay(): void {
    isOver = true;
    stream.close();
    deps.authorizer.withheld(decided.permit);
  }

  async function leave(by: (signal: CutSignal) => Promise<UpstreamAnswer>): Promise<UpstreamAnswer> {
    // The release: from here on the call and the credential are the upstream's.
    if (!stream.mayFlow() || !decided.permit.spend(deps.clock.monotonicMs())) {
      stay();
      throw stream.cut === "killed"
        ? new InvalidTokenError({ reason: "killed" })
        : new TemporarilyUnavailableError({ reason: "permit_lapsed" });
    }
    hasLeft = true;
    try {
      const answer = await by(cutting);
      ({ status } = answer);
      if (status === 401) decided.credential?.refused();
      return answer;
    } catch (error) {
      const { outcome, problem, thrown } = failureOf(error, { stream, signal: cutting });
      finish(outcome, { problem });
      throw thrown;
    }
  }

  return {
    stream,
    masking,
    tap,
    judge,
    signal: cutting,
    finish,
    failed() {
      if (isOver) return;
      if (hasLeft) finish("withheld", { problem: "internal" });
      else stay();
      cutting.abort();
    },
    leave,
    send: (order, signed) =>
      leave(async () => {
        const headers = signed === undefined ? order.headers : { ...order.headers, ...(await signed()) };
        return await sent(deps, call, { ...order, pool: poolOf(call, decided), headers, signal: cutting });
      }),
  };
}

/** Sockets belong to one agent's use of one resource, and to the credential that was made for it: no two people share one (INV-19). */
function poolOf({ resource, holder }: ProxiedCall, { credential }: DecidedCall): string {
  return [resource.name, holder.agent.name, ...(credential === undefined ? [] : [credential.lease])].join(" ");
}

/** What became of a call that brought no answer, and what its caller is told. */
function failureOf(
  error: unknown,
  { stream, signal }: { stream: StreamHandle; signal: CutSignal },
): { outcome: string; problem?: string; thrown: Error } {
  if (stream.cut !== undefined)
    return { outcome: cutOutcome(stream.cut), thrown: new CutError("cut", { cause: error }) };
  const sending = error instanceof EgressError ? error.cause : undefined;
  // Its body turned out to be longer than it may be.
  if (sending instanceof InvalidRequestError) return { outcome: "aborted", problem: sending.reason, thrown: sending };
  const problem =
    error instanceof EgressError ? error.kind : error instanceof UpstreamFailure ? error.problem : "network";
  const thrown = new BadGatewayError(problem === "timeout" ? 504 : 502, { cause: error });
  // Not cut, and so given up by its caller.
  return { outcome: signal.aborted ? "aborted" : "upstream_error", problem, thrown };
}

/** Sends, and tells the breaker of the resource whether anybody was there. */
async function sent(deps: ProxyDeps, { resource }: ProxiedCall, order: UpstreamOrder): Promise<UpstreamAnswer> {
  const to = destinationOf(resource);
  try {
    const answer = await deps.upstreams.send(order);
    if (to !== undefined) deps.breakers.answered(to);
    return answer;
  } catch (error) {
    if (to !== undefined && error instanceof EgressError && error.unreached) deps.breakers.failed(to);
    throw error;
  }
}

/** Records how a call ended. */
function note(
  deps: ProxyDeps,
  call: ProxiedCall,
  facts: Readonly<Record<string, EventValue>>,
  keeping: Keeping | undefined,
): void {
  const { requestId } = call;
  deps.recorder
    .later({ type: "call.outcome", ...toldBy(call), facts }, keeping)
    .catch((err: unknown) => deps.log.error("call_outcome_not_recorded", { requestId, err }));
}

/** What the record calls a cut. */
export function cutOutcome(reason: CutReason): string {
  return `cut_${reason}`;
}

/**
 * Relays a body: masked, for as long as it may flow. Its end is recorded by whoever writes it, for only he knows whether it
 * arrived.
 */
export async function* relayed(flight: Flight, body: UpstreamAnswer["body"]): AsyncGenerator<Uint8Array> {
  const { masking, stream } = flight;
  try {
    for await (const chunk of body) {
      if (!stream.mayFlow()) throw new CutError("cut");
      const out = masking.push(chunk);
      if (out.byteLength > 0) yield out;
    }
    if (!stream.mayFlow()) throw new CutError("cut");
    const rest = masking.end();
    if (rest.byteLength > 0) yield rest;
  } catch (error) {
    flight.finish(endOf(flight));
    throw error instanceof CutError ? error : new CutError("cut", { cause: error });
  } finally {
    // Whoever stops reading ends the upstream's work too.
    body.destroy();
  }
}

/** How a call ended that did not end whole. */
function endOf({ stream, signal }: Flight): string {
  if (stream.cut !== undefined) return cutOutcome(stream.cut);
  return signal.aborted ? "aborted" : "upstream_error";
}

/**
 * Reads a body that goes on as one: masked, and whole.
 *
 * @returns undefined where it is longer than that
 * @throws {CutError}
 */
export async function readWhole(
  flight: Flight,
  body: UpstreamAnswer["body"],
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  const { masking, stream } = flight;
  const bytes = body[Symbol.asyncIterator]();
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (let turn = await bytes.next(); turn.done !== true; turn = await bytes.next()) {
      if (!stream.mayFlow()) throw new CutError("cut");
      size += turn.value.byteLength;
      if (size > maxBytes) return undefined;
      chunks.push(masking.push(turn.value));
    }
    if (!stream.mayFlow()) throw new CutError("cut");
    const rest = masking.end();
    if (rest.byteLength > 0) chunks.push(rest);
    return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
  } catch (error) {
    flight.finish(endOf(flight));
    throw error instanceof CutError ? error : new CutError("cut", { cause: error });
  } finally {
    body.destroy();
  }
}

/** Bytes that leave at once; a kill cuts what is longer between two such pieces. */
const PIECE_BYTES = 64 * 1024;

/** The body of an answer that is there whole. */
export function wholeBody(flight: Flight, text: string): WholeBody | RelayedBody {
  const bytes = Buffer.byteLength(text, "utf8");
  if (bytes > PIECE_BYTES) return relayedBody(flight, pieces(Buffer.from(text, "utf8")));
  return {
    text,
    bytes,
    mayFlow: () => flight.stream.mayFlow(),
    whenCut: (call) => flight.signal.addEventListener("abort", call),
    ended: (how) => flight.finish(...endBy(flight, how, bytes)),
  };
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

function endBy(
  flight: Flight,
  how: "whole" | "client_gone",
  bytes: number,
): [outcome: string, facts: Readonly<Record<string, EventValue>>] {
  return [how === "whole" ? "done" : flight.stream.cut === undefined ? "aborted" : endOf(flight), { bytes }];
}

/** The body of an answer, of whatever was made of the upstream's. */
export function relayedBody(flight: Flight, chunks: AsyncIterable<Uint8Array>): RelayedBody {
  let bytes = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      bytes += chunk.byteLength;
      yield chunk;
    }
  }
  return {
    chunks: counted(),
    mayFlow: () => flight.stream.mayFlow(),
    whenCut: (call) => flight.signal.addEventListener("abort", call),
    ended: (how) => flight.finish(...endBy(flight, how, bytes)),
  };
}
