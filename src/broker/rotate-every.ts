import { durationValue, readDuration } from "../core/trust/values.ts";

/** Each rotation of a password tries the old one once, and some servers count that; in seconds. */
const LEAST_SECONDS = 3_600;

/** The setting `rotate_every` of providers that replace a secret by themselves. */
export const rotateEveryValue = durationValue.refine((text) => (readDuration(text) ?? 0) >= LEAST_SECONDS, {
  error: "must be an hour or more",
});
