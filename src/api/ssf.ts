import { z } from "zod";
import { SSF_DELIVERY } from "../core/kill/ssf-vocabulary.ts";
import { component } from "./components.ts";
import { anyId } from "./scalars.ts";

/** Most events that one poll answers, and most that it may name as taken. */
export const MAX_POLL_EVENTS = 100;
const MAX_ACKS = 1_000;

const METHODS = [SSF_DELIVERY.push, SSF_DELIVERY.poll] as const;
const STATUSES = ["enabled", "paused", "disabled"] as const;
/** One line of text. */
const line = z
  .string()
  .max(500)
  .regex(/^[^\p{Cc}\p{Zl}\p{Zp}]*$/u);
/** The identifier of an event type. */
const eventType = z.string().min(1).max(256);
/** A value that a header can hold (RFC 9110 §5.5). */
const headerValue = z
  .string()
  .min(1)
  .max(4_096)
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, "is no header value");

/** How events shall come. What is not known here is ignored, as SSF 1.0 demands of both sides. */
const deliveryRequest = z
  .object({
    method: z.enum(METHODS),
    endpoint_url: z.url().max(2_048).optional().describe("Where events are pushed to; of a poll stream it is ours."),
    authorization_header: headerValue
      .optional()
      .describe("Sent with each push. Sealed here, and never told again: give it with every change of `delivery`."),
    internal: z
      .boolean()
      .optional()
      .describe("For operators: the endpoint may have a private or loopback address, and on loopback plain `http:`."),
  })
  .refine(({ method, endpoint_url: url }) => method !== SSF_DELIVERY.push || url !== undefined, {
    path: ["endpoint_url"],
    message: "is where events are pushed to: name it",
  });

const receiversPart = {
  events_requested: z.array(eventType).max(50).optional(),
  delivery: deliveryRequest.optional().describe("Without it the receiver polls (RFC 8936)."),
  description: line.optional(),
};

/** A new stream (SSF 1.0 §8.1.1.1). */
export const streamRequest = component("SsfStreamRequest", z.object(receiversPart));

/** What is to change (SSF 1.0 §8.1.1.3, §8.1.1.4). */
export const streamChange = component(
  "SsfStreamChange",
  z.object({
    stream_id: anyId,
    ...receiversPart,
    iss: z.string().optional().describe("The transmitter's members may come along if they are as they are."),
    aud: z.union([z.string(), z.array(z.string())]).optional(),
    events_supported: z.array(z.string()).optional(),
    events_delivered: z.array(z.string()).optional(),
    min_verification_interval: z.int().optional(),
  }),
);

/** A stream as its receiver sees it. */
export const streamView = component(
  "SsfStream",
  z.strictObject({
    stream_id: z.string(),
    iss: z.string(),
    aud: z.string().describe("The resource's identifier; of an operator's stream a name of its own."),
    events_supported: z.array(z.string()),
    events_requested: z.array(z.string()).optional(),
    events_delivered: z.array(z.string()),
    delivery: z.strictObject({ method: z.enum(METHODS), endpoint_url: z.string() }),
    min_verification_interval: z.int().describe("Seconds."),
    description: z.string().optional(),
  }),
);

/** One stream by its id, or all of the receiver. */
export const streamAnswer = z.union([streamView, z.array(streamView)]);
/** Which stream. */
export const streamQuery = z.strictObject({ stream_id: anyId.optional() });
/** Which stream, where one must be named. */
export const oneStreamQuery = z.strictObject({ stream_id: anyId });

/** Whether a stream runs (SSF 1.0 §8.1.2). */
export const streamStatus = component(
  "SsfStreamStatus",
  z.strictObject({ stream_id: z.string(), status: z.enum(STATUSES), reason: z.string().optional() }),
);

/** `paused` holds events, `disabled` drops them. */
export const streamStatusRequest = component(
  "SsfStreamStatusRequest",
  z.object({ stream_id: anyId, status: z.enum(STATUSES), reason: line.optional() }),
);

/** A verification event, with the state (SSF 1.0 §8.1.4). */
export const verificationRequest = component(
  "SsfVerificationRequest",
  z.object({ stream_id: anyId, state: z.string().max(1_024).optional() }),
);

/** What a receiver has taken, and what it wants (RFC 8936 §2.2). */
export const pollRequest = component(
  "SsfPollRequest",
  z.object({
    maxEvents: z.int().min(0).optional().describe("0: only acknowledges."),
    returnImmediately: z.boolean().optional().describe("Without it an answer without events waits for up to 25 s."),
    ack: z.array(anyId).max(MAX_ACKS).optional(),
    setErrs: z
      .record(anyId, z.object({ err: z.string().max(256), description: z.string().max(2_048).optional() }))
      .refine((errors) => Object.keys(errors).length <= MAX_ACKS)
      .optional()
      .describe("Final: such an event is not sent again."),
  }),
);

/** Events by their `jti` (RFC 8936 §2.3). */
export const pollAnswer = component(
  "SsfPollAnswer",
  z.strictObject({ sets: z.record(z.string(), z.string()), moreAvailable: z.boolean() }),
);

/** Transmitter metadata (SSF 1.0 §7.1). */
export const ssfConfiguration = component(
  "SsfConfiguration",
  z.looseObject({
    spec_version: z.string(),
    issuer: z.url(),
    jwks_uri: z.url(),
    delivery_methods_supported: z.array(z.enum(METHODS)),
    configuration_endpoint: z.url(),
    status_endpoint: z.url(),
    verification_endpoint: z.url(),
    default_subjects: z.literal("ALL"),
  }),
);

/** A new stream. */
export type StreamRequest = z.output<typeof streamRequest>;
/** What is to change of a stream. */
export type StreamChange = z.output<typeof streamChange>;
/** How events shall come. */
export type StreamDelivery = z.output<typeof deliveryRequest>;
/** A stream as its receiver sees it. */
export type StreamView = z.output<typeof streamView>;
/** Whether a stream runs. */
export type StreamStatus = z.output<typeof streamStatus>;
/** Whether it shall run. */
export type StreamStatusRequest = z.output<typeof streamStatusRequest>;
/** What a receiver has taken, and what it wants. */
export type PollRequest = z.output<typeof pollRequest>;
/** Events by their `jti`. */
export type PollAnswer = z.output<typeof pollAnswer>;
