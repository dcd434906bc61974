import type { StreamView } from "../api/ssf.ts";
import { ProblemError } from "../api/problem.ts";
import { InvalidClientError, InvalidTokenError } from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { ClientRequest, Rooms } from "../http/rooms.ts";
import { MAX_POLL_EVENTS } from "../api/ssf.ts";
import { ssfError } from "../core/kill/ssf-vocabulary.ts";
import type { Ssf, SsfDeps } from "../revocation/ssf.ts";
import { checkOurPart, settledSettings, viewOf, type PushRights } from "../revocation/ssf-settings.ts";
import type { SsfSettings, SsfStream } from "../revocation/ssf-streams.ts";
import type { StsDeps } from "../sts/deps.ts";
import type { LiveTokens } from "../sts/live-tokens.ts";
import type { ResolveAll } from "../system/egress-connector.ts";
import { ulid } from "../system/random.ts";
import { audienceOf } from "./feed-room.ts";

interface SsfRoomDeps {
  readonly sts: StsDeps;
  readonly live: LiveTokens;
  readonly operators: Rooms["operators"];
  readonly ssf: Ssf;
  readonly transmitter: SsfDeps;
  readonly resolve: ResolveAll | undefined;
}

/** Whose stream it is, as it is stored and recorded, and what he is told of. */
interface Receiver {
  readonly key: string;
  /** Undefined: all kills. */
  readonly resource: { readonly name: string; readonly identifier: string } | undefined;
  readonly rights: PushRights;
  /** Whether nothing by which he asks was changed since. */
  readonly mayStill: () => boolean;
}

/** Streams of security events, for resources by their introspection credential and for operators. */
export function ssfRoom(deps: SsfRoomDeps): Rooms["ssf"] {
  const { ssf, transmitter } = deps;
  const { store, clock, issuer } = transmitter;
  const at = (): number => Math.floor(clock.nowMs());

  return {
    async create(order, request) {
      const receiver = await receiverOf(deps, request);
      const id = `ssf_${ulid(clock.nowMs())}`;
      const does = doer(deps, { receiver, request, stream: id });
      const settings = await does.settled(
        settledSettings(order, { ...sealing(deps), id, before: undefined, isWhole: true, rights: receiver.rights }),
      );
      const { resource } = receiver;
      const stream = {
        id,
        receiver: receiver.key,
        resource: resource?.name ?? null,
        // Nobody else's events bear this one.
        aud: resource?.identifier ?? `${issuer}/ssf/${id}`,
        ...settings,
      };
      const event = does.event("created", placeOf(settings));
      if (!(await store.create(stream, { nowMs: at(), event })))
        throw await does.refused(
          "stream_exists",
          new ProblemError("conflict", { detail: "The receiver has a stream." }),
        );
      return await seen(deps, id);
    },
    async list(request) {
      const { key, rights } = await receiverOf(deps, request);
      // Operators see whose streams there are.
      const streams = await store.list(rights.isOperator ? undefined : key);
      return streams.map((stream) => viewOf(stream, issuer));
    },
    async read(id, request) {
      const receiver = await receiverOf(deps, request);
      return viewOf(await own(deps, { id, receiver, request, operatorsToo: true }), issuer);
    },
    async change({ isWhole, stream_id: id, ...order }, request) {
      const receiver = await receiverOf(deps, request);
      const before = await own(deps, { id, receiver, request, operatorsToo: false });
      checkOurPart({ stream_id: id, ...order }, viewOf(before, issuer));
      const does = doer(deps, { receiver, request, stream: id });
      const settings = await does.settled(
        settledSettings(order, { ...sealing(deps), id, before, isWhole, rights: receiver.rights }),
      );
      const event = does.event("updated", placeOf(settings));
      if (!(await store.change(id, settings, { wasVersion: before.header_version, nowMs: at(), event })))
        throw new ProblemError("conflict", { detail: "Somebody else changed it at the same moment." });
      ssf.wake();
      return await seen(deps, id);
    },
    async remove(id, request) {
      const receiver = await receiverOf(deps, request);
      await own(deps, { id, receiver, request, operatorsToo: true });
      const event = doer(deps, { receiver, request, stream: id }).event("deleted", {});
      if (!(await store.remove(id, { nowMs: at(), event }))) throw new ProblemError("not_found");
    },
    ...deliveryRoom(deps),
  };
}

/** What is done with a stream that is there: its status, its verification, its events. */
function deliveryRoom(deps: SsfRoomDeps): Pick<Rooms["ssf"], "status" | "setStatus" | "verify" | "poll"> {
  const { ssf, transmitter } = deps;
  const { store, clock } = transmitter;
  return {
    async status(id, request) {
      const receiver = await receiverOf(deps, request);
      return statusOf(await own(deps, { id, receiver, request, operatorsToo: true }));
    },
    async setStatus({ stream_id: id, status, reason }, request) {
      const receiver = await receiverOf(deps, request);
      const stream = await own(deps, { id, receiver, request, operatorsToo: true });
      await ssf.setStatus(stream, { status, reason }, { agent: receiver.key, requestId: request.requestId });
      ssf.wake();
      const now = await store.byId(id);
      if (now === undefined) throw new ProblemError("not_found");
      return statusOf(now);
    },
    async verify({ stream_id: id, state }, request) {
      const receiver = await receiverOf(deps, request);
      const { status } = await own(deps, { id, receiver, request, operatorsToo: false });
      const does = doer(deps, { receiver, request, stream: id });
      if (status === "disabled")
        throw await does.refused(
          "stream_disabled",
          new ProblemError("conflict", { detail: "The stream is disabled." }),
        );
      if (!(await store.verify(id, ssf.verification(id, state), Math.floor(clock.nowMs()))))
        throw await does.refused("verification_too_often", new ProblemError("too_many_requests"));
      ssf.wake();
    },
    async poll(id, order, request) {
      const receiver = await receiverOf(deps, request);
      const stream = await own(deps, { id, receiver, request, operatorsToo: false });
      if (stream.method !== "poll") throw new ProblemError("conflict", { detail: "The stream pushes its events." });
      await settle(deps, id, order);
      const limit = Math.min(order.maxEvents ?? MAX_POLL_EVENTS, MAX_POLL_EVENTS);
      const isImmediate = order.returnImmediately === true || limit === 0;
      const { sets, moreAvailable } = await ssf.poll(stream, { limit, isImmediate, signal: request.signal });
      if (!receiver.mayStill()) throw new InvalidClientError({ reason: "client_not_allowed" });
      return { sets, moreAvailable };
    },
  };
}

const sealing = ({ transmitter, resolve }: SsfRoomDeps) => ({ envelope: transmitter.envelope, resolve });

/** What was taken, and what the receiver cannot take: neither is sent again (RFC 8936 §2.4). */
async function settle(
  { transmitter: { store, metrics, log } }: SsfRoomDeps,
  id: string,
  { ack = [], setErrs = {} }: Parameters<Rooms["ssf"]["poll"]>[1],
): Promise<void> {
  const delivered = await store.settle(id, ack, "delivered");
  const refused = await store.settle(id, Object.keys(setErrs), "refused");
  metrics.ssfEvents.inc({ method: "poll", outcome: "delivered" }, delivered);
  metrics.ssfEvents.inc({ method: "poll", outcome: "refused" }, refused);
  if (refused === 0) return;
  for (const { err } of Object.values(setErrs).slice(0, 10))
    log.warn("ssf_event_refused", { name: id, reason: ssfError(err) });
}

/** @throws {InvalidClientError | InvalidTokenError} recorded, like strangers everywhere */
async function receiverOf(deps: SsfRoomDeps, request: ClientRequest): Promise<Receiver> {
  const { sts, live, operators } = deps;
  const { authorization } = request.credentials;
  if (operators.isOperatorKey(authorization)) {
    const { requestId, remoteAddress, method, route } = request;
    const { id } = await operators.authenticate(authorization).catch(async (error: unknown) => {
      if (error instanceof InvalidTokenError)
        await sts.noise.refused(
          { type: "admin.request", requestId, facts: { route: `${method} ${route}` } },
          error.reason,
          remoteAddress,
        );
      throw error;
    });
    return {
      key: `operator:${id}`,
      resource: undefined,
      rights: { isOperator: true, origin: undefined },
      mayStill: () => true,
    };
  }
  const { name, identifier, mayStill } = await audienceOf({ sts, live }, undefined, request);
  const isTheirs = sts.trust().resourceByName(name)?.kind === "verify" && /^https?:/i.test(identifier);
  return {
    key: `resource:${name}`,
    resource: { name, identifier },
    // Whoever wrote the trust file named this host; of what we serve ourselves it is our own.
    rights: { isOperator: false, origin: isTheirs ? new URL(identifier).origin : undefined },
    mayStill,
  };
}

/** @throws {ProblemError} `not_found`, the same for a stream of somebody else and for none */
async function own(
  deps: SsfRoomDeps,
  o: { id: string; receiver: Receiver; request: ClientRequest; operatorsToo: boolean },
): Promise<SsfStream> {
  const stream = await deps.transmitter.store.byId(o.id);
  const isOwn = stream?.receiver === o.receiver.key;
  if (stream !== undefined && (isOwn || (o.operatorsToo && o.receiver.rights.isOperator))) return stream;
  throw await doer(deps, { ...o, stream: o.id }).refused("stream_unknown", new ProblemError("not_found"));
}

/** Who changes a stream, in the ledger's words. */
function doer(deps: SsfRoomDeps, o: { receiver: Receiver; request: ClientRequest; stream: string }) {
  const { recorder } = deps.transmitter;
  const draft = (facts: object) => ({
    type: "ssf.stream" as const,
    agent: o.receiver.key,
    resource: o.receiver.resource?.name,
    requestId: o.request.requestId,
    facts: { stream: o.stream.slice(0, 64), ...facts },
  });
  const refused = async (reason: Reason, error: Error): Promise<Error> => {
    const { method, route } = o.request;
    await recorder.refused(draft({ route: `${method} ${route}` }), reason);
    return error;
  };
  return {
    event: (change: string, facts: object) => recorder.draft(draft({ change, ...facts }), "granted"),
    refused,
    settled: (settings: Promise<SsfSettings>) =>
      settings.catch(async (error: unknown) => {
        throw error instanceof ProblemError ? await refused("stream_endpoint_refused", error) : error;
      }),
  };
}

/** Where events go, without what a URL may hide. */
function placeOf({ method, endpointUrl, header }: SsfSettings): object {
  if (method === "poll") return { method };
  return { method, endpoint: new URL(endpointUrl ?? "").origin, has_secret: header !== null };
}

async function seen({ transmitter: { store, issuer } }: SsfRoomDeps, id: string): Promise<StreamView> {
  const stream = await store.byId(id);
  if (stream === undefined) throw new ProblemError("not_found");
  return viewOf(stream, issuer);
}

function statusOf({ id, status, status_reason: reason }: SsfStream) {
  return { stream_id: id, status, ...(reason !== null && { reason }) };
}
