import { z } from "zod";
import { NAME_PATTERN } from "../core/trust/values.ts";
import { component } from "./components.ts";

/** Why a security event was not accepted (RFC 8935 §2.4). */
export const SIGNAL_ERRORS = [
  "invalid_request",
  "invalid_key",
  "invalid_issuer",
  "invalid_audience",
  "authentication_failed",
  "access_denied",
] as const;

/** One of {@link SIGNAL_ERRORS}. */
export type SignalErrorCode = (typeof SIGNAL_ERRORS)[number];

/** The address of one issuer's events. */
export const signalParams = z.strictObject({
  issuer: z.string().max(512).describe(`Name of the issuer in the trust file, \`${NAME_PATTERN.source}\`.`),
});

/** A refused security event. */
export const signalError = component(
  "SecurityEventError",
  z.strictObject({ err: z.enum(SIGNAL_ERRORS), description: z.string() }),
);
