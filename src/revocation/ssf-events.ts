import { SSF_EVENT } from "../core/kill/ssf-vocabulary.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import { sha256Base64url } from "../system/hash.ts";
import { feedEntries, type Dead, type HitRow } from "./feed-entries.ts";

/** Whom or what an event is about (RFC 9493, SSF 1.0 §3). */
export type SubjectId = Readonly<Record<string, unknown>> & { readonly format: string };

/** What kind of event. */
export type SsfEventKind = keyof typeof KINDS;

const KINDS = {
  "session-revoked": SSF_EVENT.sessionRevoked,
  verification: SSF_EVENT.verification,
  "stream-updated": SSF_EVENT.streamUpdated,
} as const;

/** One event of a stream, before it is signed. */
export interface SsfEvent {
  readonly jti: string;
  readonly kind: SsfEventKind;
  readonly subject: SubjectId;
  readonly event: Readonly<Record<string, unknown>>;
  /** The same for all events of one kill: its id. */
  readonly txn: string | null;
  /** Epoch seconds. */
  readonly at: number;
}

/** A step of the kill position: a kill, or names that were removed from the trust state. */
export interface Step {
  readonly id: string;
  readonly position: number;
  readonly at_ms: number;
  readonly actor: string;
  readonly reason: string;
  readonly keys: readonly string[];
}

/** What subjects are named by. */
export interface Naming {
  readonly issuer: string;
  readonly trust: Pick<TrustIndex, "issuerByName" | "resourceByName" | "all">;
}

/** Longest reason that is told, in characters. */
const MAX_REASON = 500;

/**
 * The claims of a security event token: one event, never `sub`, never `exp`, so that nobody takes it for a token of ours.
 *
 * @see RFC 8417 §2.2, SSF 1.0 §4.1
 */
export function eventClaims(event: SsfEvent, stream: { issuer: string; aud: string }): object {
  return {
    iss: stream.issuer,
    aud: stream.aud,
    jti: event.jti,
    iat: event.at,
    ...(event.txn !== null && { txn: event.txn }),
    sub_id: event.subject,
    events: { [KINDS[event.kind]]: event.event },
  };
}

/**
 * What a stream tells of a step. The same step gives the same `jti` for the same subject, whoever asks and however often.
 *
 * @param hits live tokens that the step hit; of a resource's stream only its own
 * @param stream.resource undefined: it carries all kills
 */
export function eventsOfStep(
  step: Step,
  hits: readonly HitRow[],
  at: { stream: { id: string; resource: { name: string; identifier: string } | undefined }; naming: Naming },
): readonly SsfEvent[] {
  const { stream, naming } = at;
  const seconds = Math.floor(step.at_ms / 1_000);
  const subjects =
    stream.resource === undefined
      ? step.keys.flatMap((key) => subjectsOfKey(key, hits, naming))
      : feedEntries(hits, stream.resource, seconds).map((dead) => subjectOfDead(dead, naming));
  const event = {
    event_timestamp: seconds,
    initiating_entity: initiator(step.actor),
    reason_admin: { en: step.reason.slice(0, MAX_REASON) },
  };
  const byJti = new Map<string, SsfEvent>();
  for (const subject of subjects) {
    const jti = sha256Base64url(JSON.stringify([stream.id, step.position, subject]));
    byJti.set(jti, { jti, kind: "session-revoked", subject, event, txn: step.id, at: seconds });
  }
  return [...byJti.values()];
}

/** Keys of which everybody's stream must know the tokens they hit: their name says nothing to others. */
export function needsHits(key: string): boolean {
  return /^(?:issuer|jti):/.test(key);
}

function subjectOfDead(dead: Dead, naming: Naming): SubjectId {
  if ("agent" in dead) return agentId(dead.agent, naming);
  if ("sub" in dead) return partyId(dead.sub, naming);
  if ("txn" in dead) return sessionId(dead.txn);
  if ("jti" in dead) return tokenId(dead.jti, naming);
  return applicationId(dead.aud);
}

/** For whoever is told of all kills. Owners as their agents, `all` as every resource. */
function subjectsOfKey(key: string, hits: readonly HitRow[], naming: Naming): SubjectId[] {
  const colon = key.indexOf(":");
  const value = key.slice(colon + 1);
  const { trust } = naming;
  const tokens = (): SubjectId[] =>
    hits.filter((hit) => hit.key === key).flatMap((hit) => hit.jtis.map((jti) => tokenId(jti, naming)));
  switch (colon < 0 ? key : key.slice(0, colon)) {
    case "agent":
      return [agentId(value, naming)];
    case "subject":
      return [partyId(value, naming)];
    case "txn":
      return [sessionId(value)];
    case "jti":
      return [tokenId(value, naming), ...tokens()];
    case "lease":
      return [{ format: "opaque", id: value }];
    case "resource": {
      const resource = trust.resourceByName(value);
      return resource ? [applicationId(resource.identifier)] : [];
    }
    case "owner":
      return trust
        .all()
        .agents.filter(({ owner }) => owner === value)
        .map(({ name }) => agentId(name, naming));
    case "issuer": {
      const issuer = trust.issuerByName(value);
      const uri = issuer?.url ?? issuer?.spiffe;
      return [...(uri === undefined ? [] : [{ format: "complex", tenant: { format: "uri", uri } }]), ...tokens()];
    }
    case "all":
      return trust.all().resources.map(({ identifier }) => applicationId(identifier));
    default:
      return [];
  }
}

const sessionId = (txn: string): SubjectId => ({ format: "complex", session: { format: "opaque", id: txn } });
const applicationId = (uri: string): SubjectId => ({ format: "complex", application: { format: "uri", uri } });
const tokenId = (jti: string, { issuer }: Naming): SubjectId => ({ format: "jwt_id", iss: issuer, jti });
/** Plain, for that is what every receiver of CAEP understands (CAEP interoperability profile §2.3.2). */
const agentId = (name: string, { issuer }: Naming): SubjectId => ({
  format: "iss_sub",
  iss: issuer,
  sub: `agent|${name}`,
});

/** `<issuer name>|<its sub>`: by the names that the human's own provider gave; else as our tokens have it. */
function partyId(sub: string, naming: Naming): SubjectId {
  const bar = sub.indexOf("|");
  const issuer = sub.startsWith("agent|") ? undefined : naming.trust.issuerByName(sub.slice(0, bar));
  const iss = issuer?.url ?? issuer?.spiffe;
  if (iss === undefined) return { format: "iss_sub", iss: naming.issuer, sub };
  return { format: "iss_sub", iss, sub: sub.slice(bar + 1) };
}

/** CAEP 1.0 §2: people who run Ephor, what other parties' signals set off, and everything else. */
function initiator(actor: string): "admin" | "policy" | "system" {
  if (actor.startsWith("operator:")) return "admin";
  return actor.startsWith("issuer:") || actor.startsWith("transmitter:") ? "policy" : "system";
}
