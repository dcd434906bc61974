import type { Noise } from "../audit/noise.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { meaningOf, type Meaning } from "../core/signals/received-events.ts";
import { signalSubject } from "../core/signals/subject.ts";
import { killKey } from "../core/kill/keys.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Db } from "../db/database.ts";
import type { Federation } from "../federation/federation.ts";
import type { VerifiedSecurityEvent } from "../federation/security-event.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { digestsEqual, sha256Hex } from "../system/hash.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { reachOf } from "./reach.ts";
import { receiptOf } from "./receipt.ts";
import type { Revocation } from "./revocation.ts";

/** A security event as it was pushed. */
export interface PushedSignal {
  /** The issuer's name in the address. */
  readonly name: string;
  readonly token: string;
  readonly authorization: string | undefined;
  readonly requestId: string;
  readonly remoteAddress: string;
}

interface SignalsReceivedDeps {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly federation: Pick<Federation, "verifySecurityEvent">;
  readonly revocation: Pick<Revocation, "signal" | "keepReceipt">;
  readonly noise: Noise;
  readonly metrics: Pick<Metrics, "signalsReceived">;
  readonly log: Log;
}

/** Events in progress in one process; more are answered 503, for each can mean a kill, and operators kill too. */
const IN_PROGRESS = 64;
/** A name is kept for a while past the end of what it names: clocks differ. */
const REMEMBERED_SECONDS = 3_600;
/** Longest part of a foreign text in a record, in characters. */
const TEXT_CHARACTERS = 256;

const BEARER = /^bearer ([\x21-\x7e]{1,512})$/i;
const INITIATORS: ReadonlySet<unknown> = new Set(["admin", "user", "policy", "system"]);

/**
 * Makes what receives security events: resolves when what the event means stands everywhere, and not before.
 *
 * @returns a function that throws {RefusedToken}, recorded, where the event is not accepted, with the reasons of
 * `createSecurityEventCheck`, `transmitter_secret_wrong`, `signal_subject_foreign` and `signal_subject_unsupported`;
 * {TemporarilyUnavailableError} where it may be sent again
 * @see RFC 8935 §2, standards.md 20.7
 */
export function createSignalsReceived(deps: SignalsReceivedDeps): (pushed: PushedSignal) => Promise<void> {
  const { metrics } = deps;
  let inProgress = 0;
  return async (pushed) => {
    if (inProgress >= IN_PROGRESS) throw new TemporarilyUnavailableError({ reason: "overloaded" });
    inProgress += 1;
    const seen = { issuer: "none", event: "none" };
    let outcome = "failed";
    try {
      outcome = await receive(deps, pushed, seen);
    } catch (error) {
      if (!(error instanceof RefusedToken)) throw error;
      if (error.reason === "token_issuer_unreachable")
        throw new TemporarilyUnavailableError({ reason: error.reason, ...error.facts }, { cause: error });
      outcome = "refused";
      const { requestId, remoteAddress } = pushed;
      const facts = { ...error.facts, transmitter: seen.issuer, event: seen.event };
      await deps.noise.refused({ type: "signal.receive", requestId, facts }, error.reason, remoteAddress);
      throw error;
    } finally {
      inProgress -= 1;
      metrics.signalsReceived.inc({ ...seen, outcome });
    }
  };
}

/** @param seen is told what could be trusted of it */
async function receive(
  deps: SignalsReceivedDeps,
  pushed: PushedSignal,
  seen: { issuer: string; event: string },
): Promise<string> {
  const signal = await deps.federation.verifySecurityEvent(pushed.token, pushed.name);
  const { issuer } = signal;
  const { sharedSignals } = issuer;
  const meaning = meaningOf(signal.type, signal.event, sharedSignals.on);
  seen.issuer = issuer.name;
  seen.event = meaning.name;
  // After the signature, so that strangers do not learn which names there are.
  checkSecret(sharedSignals.secretHash, pushed.authorization);
  const subject = subjectOf(signal, meaning);
  return await act(deps, { signal, meaning, subject, requestId: pushed.requestId });
}

/** @throws {RefusedToken} `transmitter_secret_wrong` */
function checkSecret(secretHash: string | undefined, authorization: string | undefined): void {
  if (secretHash === undefined) return;
  const secret = BEARER.exec(authorization ?? "")?.[1] ?? "";
  if (!digestsEqual(secretHash, `sha256:${sha256Hex(secret)}`))
    throw new RefusedToken({ reason: "transmitter_secret_wrong" });
}

/** Whom it speaks of. An event without effect may speak of whatever it likes: streams, devices, people whom we cannot know. */
function subjectOf({ issuer, subId }: VerifiedSecurityEvent, { effect }: Meaning): string | undefined {
  try {
    return `${issuer.name}|${signalSubject(subId, issuer.sharedSignals.subjectIssuers)}`;
  } catch (error) {
    if (effect === "ignore" && error instanceof RefusedToken) return undefined;
    throw error;
  }
}

async function act(
  deps: SignalsReceivedDeps,
  what: { signal: VerifiedSecurityEvent; meaning: Meaning; subject: string | undefined; requestId: string },
): Promise<string> {
  const { db, clock, revocation, log } = deps;
  const { signal, meaning, subject, requestId } = what;
  const by = `transmitter:${signal.issuer.name}`;
  const reason = `shared signals: ${meaning.name} from ${signal.issuer.name}`;
  const nowMs = clock.nowMs();
  const kills = meaning.effect === "kill" || meaning.effect === "sessions";
  const endsAt = meaning.effect === "sessions" ? Math.floor(nowMs / 1_000) + signal.presentableSeconds : undefined;
  const targets = subject === undefined ? [] : [{ kind: "subject" as const, value: subject }];
  const order = { targets, reason, forSeconds: undefined, dryRun: false };
  const receipt = { order, targets, at: new Date(nowMs).toISOString() };
  const done = await revocation.signal({
    once: { key: signal.key, exp: signal.staleAt + REMEMBERED_SECONDS },
    effect: kills ? "kill" : meaning.effect === "restore" ? "lift" : "record",
    subject,
    by,
    reason,
    requestId,
    endsAt,
    ...(kills && { receipt: receiptOf({ ...receipt, reach: undefined }) }),
    facts: factsOf(signal, meaning),
  });
  if (done.outcome !== "killed" || subject === undefined) return done.outcome;
  // The kill stands, and its receipt is nobody's reason to wait.
  void reachOf(db, [killKey("subject", subject)], clock.now())
    .then((reach) => revocation.keepReceipt(done.id, receiptOf({ ...receipt, reach, replicas: done.replicas })))
    .catch((err: unknown) => log.warn("receipt_incomplete", { requestId, err }));
  return meaning.effect === "sessions" ? "sessions" : "killed";
}

/** What the record keeps of an event: names and our own words, nothing that it says in free text. */
function factsOf(
  signal: VerifiedSecurityEvent,
  { name, effect }: Meaning,
): Record<string, string | number | undefined> {
  const initiator = signal.event["initiating_entity"];
  return {
    transmitter: signal.issuer.name,
    event: name,
    effect,
    ...(name === "other" && { event_type: signal.type.slice(0, TEXT_CHARACTERS) }),
    set: signal.jti.slice(0, TEXT_CHARACTERS),
    set_iat: signal.iat,
    initiating_entity: INITIATORS.has(initiator) ? (initiator as string) : undefined,
  };
}
