import { ProblemError } from "../api/problem.ts";
import type { StreamChange, StreamDelivery, StreamRequest, StreamView } from "../api/ssf.ts";
import { MIN_VERIFICATION_SECONDS, SSF_DELIVERY, SSF_EVENT } from "../core/kill/ssf-vocabulary.ts";
import { checkDestination } from "../system/egress-destination.ts";
import { EgressError } from "../system/egress-error.ts";
import type { ResolveAll } from "../system/egress-connector.ts";
import type { Envelope } from "../vault/envelope.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import { deliveryMethod, delivers, headerPlace, type SsfSettings, type SsfStream } from "./ssf-streams.ts";

/** Who asks, as far as it decides where events may be pushed to. */
export interface PushRights {
  /** May allow private addresses by saying so. */
  readonly isOperator: boolean;
  /** Origin of a resource that the trust file names: there private addresses are allowed anyway. */
  readonly origin: string | undefined;
}

/**
 * The receiver's part of a stream, with the push secret sealed for its place.
 *
 * @param o.before undefined: a new stream. What is not named stays, or goes back to its default where `isWhole`
 * @throws {ProblemError} `malformed`: events must not be pushed there
 */
export async function settledSettings(
  order: StreamRequest,
  o: {
    id: string;
    before: SsfStream | undefined;
    isWhole: boolean;
    rights: PushRights;
    envelope: Envelope;
    resolve: ResolveAll | undefined;
  },
): Promise<SsfSettings> {
  const before = o.isWhole ? undefined : o.before;
  const version = (o.before?.header_version ?? 0) + 1;
  const named = {
    headerVersion: version,
    eventsRequested: order.events_requested ?? before?.events_requested ?? null,
    description: order.description ?? before?.description ?? null,
  };
  const { delivery } = order;
  if (delivery?.method === SSF_DELIVERY.push) {
    const { url, internal } = await endpointOf(delivery, o.rights, o.resolve);
    const header = await sealedHeader(delivery.authorization_header, { id: o.id, version, envelope: o.envelope });
    return { ...named, method: "push", endpointUrl: url, internal, header };
  }
  if (delivery === undefined && before?.method === "push") {
    const { endpoint_url: endpointUrl, internal, header_version: headerVersion } = before;
    // As it lies there, sealed for the version that it has.
    const header = before.header as SsfSettings["header"];
    return { ...named, headerVersion, method: "push", endpointUrl, internal, header };
  }
  return { ...named, method: "poll", endpointUrl: null, internal: false, header: null };
}

/** The addresses that the receiver's endpoint may have; https but on loopback. */
async function endpointOf(
  delivery: StreamDelivery,
  rights: PushRights,
  resolve: ResolveAll | undefined,
): Promise<{ url: string; internal: boolean }> {
  const refused = (path: string, detail: string): ProblemError =>
    new ProblemError("malformed", { detail: "Events cannot be pushed there.", entries: [{ path, detail }] });
  if (delivery.internal === true && !rights.isOperator)
    throw refused("body.delivery.internal", "is an operator's to say");
  const url = new URL(delivery.endpoint_url ?? "");
  const internal = delivery.internal === true || url.origin === rights.origin;
  try {
    await checkDestination(url.href, { internal, resolve });
  } catch (error) {
    if (!(error instanceof EgressError)) throw error;
    throw refused("body.delivery.endpoint_url", ENDPOINT_PROBLEMS[error.kind] ?? "cannot be reached");
  }
  return { url: url.href, internal };
}

const ENDPOINT_PROBLEMS: Partial<Record<EgressError["kind"], string>> = {
  url: "is no https URL without credentials and fragment",
  address: "leads to an address that is not public",
  network: "has a host name that is not known",
  timeout: "has a host name that is not known",
};

async function sealedHeader(
  text: string | undefined,
  o: { id: string; version: number; envelope: Envelope },
): Promise<SsfSettings["header"]> {
  if (text === undefined) return null;
  const value = SecretBytes.fromText(text);
  try {
    return await o.envelope.seal(value, headerPlace(o.id, o.version));
  } finally {
    value.wipe();
  }
}

/** @throws {ProblemError} `malformed` where a member of ours comes along with another value (SSF 1.0 §8.1.1.3) */
export function checkOurPart(order: StreamChange, view: StreamView): void {
  const ours = ["iss", "aud", "events_supported", "events_delivered", "min_verification_interval"] as const;
  const entries = ours
    .filter((name) => order[name] !== undefined && JSON.stringify(order[name]) !== JSON.stringify(view[name]))
    .map((name) => ({ path: `body.${name}`, detail: "is the transmitter's" }));
  if (entries.length > 0) throw new ProblemError("malformed", { entries });
}

/** A stream as its receiver sees it; never the push secret. */
export function viewOf(stream: SsfStream, issuer: string): StreamView {
  return {
    stream_id: stream.id,
    iss: issuer,
    aud: stream.aud,
    events_supported: [SSF_EVENT.sessionRevoked],
    ...(stream.events_requested !== null && { events_requested: [...stream.events_requested] }),
    events_delivered: delivers(stream) ? [SSF_EVENT.sessionRevoked] : [],
    delivery: {
      method: deliveryMethod(stream),
      endpoint_url: stream.endpoint_url ?? `${issuer}/ssf/poll/${stream.id}`,
    },
    min_verification_interval: MIN_VERIFICATION_SECONDS,
    ...(stream.description !== null && { description: stream.description }),
  };
}
