import { z } from "zod";
import {
  oneStreamQuery,
  pollAnswer,
  pollRequest,
  ssfConfiguration as configurationShape,
  streamAnswer,
  streamChange,
  streamQuery,
  streamRequest,
  streamStatus,
  streamStatusRequest,
  streamView,
  verificationRequest,
} from "../../api/ssf.ts";
import { anyId } from "../../api/scalars.ts";
import { LIMITS } from "../limits.ts";
import { ssfConfiguration } from "../metadata.ts";
import { ok, route } from "../route.ts";
import type { ResponseSpec, Route } from "../route.ts";

const tag = "Shared Signals";
const NOT_ITS_OWN: Readonly<Record<number, ResponseSpec>> = {
  404: { description: "The receiver has no such stream." },
};
const REFUSED: ResponseSpec = {
  description: "A member is wrong, or events must not be pushed to such an endpoint.",
};

/** Kills for other products: OpenID Shared Signals 1.0, CAEP 1.0 (CONTRACT §6). */
export const ssfRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/.well-known/ssf-configuration",
    operationId: "getSsfConfiguration",
    summary: "Transmitter metadata (SSF 1.0)",
    tag,
    auth: "none",
    responses: { 200: { description: "The metadata.", body: configurationShape } },
    handle: ({ house }) =>
      ok(ssfConfiguration(house), {
        "Cache-Control": `public, max-age=${LIMITS.metadataMaxAgeSeconds}`,
        "Access-Control-Allow-Origin": "*",
      }),
  }),
  route({
    method: "POST",
    path: "/ssf/stream",
    operationId: "createSsfStream",
    summary: "Make the receiver's stream",
    description:
      "The receiver authenticates like `/introspect` (a resource's name and secret, or the platform's token of an agent that introspects) and is told what hits its resource; an operator key is told of every kill.",
    tag,
    auth: "client",
    body: streamRequest,
    responses: {
      201: { description: "It begins with the next kill.", body: streamView },
      400: REFUSED,
      409: { description: "The receiver has a stream." },
    },
    handle: async ({ rooms, body, request }) => ({ status: 201, json: await rooms.ssf.create(body, request) }),
  }),
  route({
    method: "GET",
    path: "/ssf/stream",
    operationId: "getSsfStream",
    summary: "The receiver's stream; without an id a list",
    tag,
    auth: "client",
    query: streamQuery,
    responses: { 200: { description: "It, or all of them.", body: streamAnswer }, ...NOT_ITS_OWN },
    handle: async ({ rooms, query: { stream_id: id }, request }) =>
      ok(id === undefined ? await rooms.ssf.list(request) : await rooms.ssf.read(id, request)),
  }),
  route({
    method: "PATCH",
    path: "/ssf/stream",
    operationId: "updateSsfStream",
    summary: "Change what is named of a stream",
    tag,
    auth: "client",
    body: streamChange,
    responses: { 200: { description: "As it is now.", body: streamView }, 400: REFUSED, ...NOT_ITS_OWN },
    handle: async ({ rooms, body, request }) => ok(await rooms.ssf.change({ ...body, isWhole: false }, request)),
  }),
  route({
    method: "PUT",
    path: "/ssf/stream",
    operationId: "replaceSsfStream",
    summary: "Replace the receiver's part of a stream",
    tag,
    auth: "client",
    body: streamChange,
    responses: { 200: { description: "As it is now.", body: streamView }, 400: REFUSED, ...NOT_ITS_OWN },
    handle: async ({ rooms, body, request }) => ok(await rooms.ssf.change({ ...body, isWhole: true }, request)),
  }),
  route({
    method: "DELETE",
    path: "/ssf/stream",
    operationId: "deleteSsfStream",
    summary: "End a stream, with what it has not delivered",
    tag,
    auth: "client",
    query: oneStreamQuery,
    responses: { 204: { description: "It is gone." }, ...NOT_ITS_OWN },
    async handle({ rooms, query, request }) {
      await rooms.ssf.remove(query.stream_id, request);
      return { status: 204 };
    },
  }),
  route({
    method: "GET",
    path: "/ssf/status",
    operationId: "getSsfStatus",
    summary: "Whether a stream runs",
    tag,
    auth: "client",
    query: oneStreamQuery,
    responses: { 200: { description: "Its status.", body: streamStatus }, ...NOT_ITS_OWN },
    handle: async ({ rooms, query, request }) => ok(await rooms.ssf.status(query.stream_id, request)),
  }),
  route({
    method: "POST",
    path: "/ssf/status",
    operationId: "setSsfStatus",
    summary: "Enable, pause (events are held) or disable (events are dropped) a stream",
    tag,
    auth: "client",
    body: streamStatusRequest,
    responses: { 200: { description: "Its status now.", body: streamStatus }, ...NOT_ITS_OWN },
    handle: async ({ rooms, body, request }) => ok(await rooms.ssf.setStatus(body, request)),
  }),
  route({
    method: "POST",
    path: "/ssf/verify",
    operationId: "verifySsfStream",
    summary: "Ask for a verification event",
    tag,
    auth: "client",
    body: verificationRequest,
    responses: {
      204: { description: "The event follows on the stream." },
      ...NOT_ITS_OWN,
      409: { description: "The stream is disabled." },
      429: { description: "Asked again before `min_verification_interval` was over." },
    },
    async handle({ rooms, body, request }) {
      await rooms.ssf.verify(body, request);
      return { status: 204 };
    },
  }),
  route({
    method: "POST",
    path: "/ssf/poll/{id}",
    operationId: "pollSsfStream",
    summary: "Acknowledge events and take the next (RFC 8936)",
    tag,
    auth: "client",
    params: z.strictObject({ id: anyId }),
    body: pollRequest,
    responses: {
      200: { description: "Events that were not acknowledged.", body: pollAnswer },
      ...NOT_ITS_OWN,
      409: { description: "The stream pushes." },
    },
    handle: async ({ rooms, params: { id }, body, request }) => ok(await rooms.ssf.poll(id, body, request)),
  }),
];
