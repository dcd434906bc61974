import { z } from "zod";
import { SIGNAL_EFFECTS, SIGNAL_NAMES, type SignalEffect, type SignalName } from "../signals/received-events.ts";
import { JWS_ALGORITHMS } from "../token/jws.ts";
import { TRUST_LIMITS } from "./limits.ts";
import type { PublicJwk, SharedSignals } from "./model.ts";
import { asList, isLoopbackUrl, oneOrMany, publicJwkValue, textValue, urlValue } from "./values.ts";

const webUrl = urlValue({ schemes: ["https", "http"], query: false });

const onValue = z.strictObject(
  Object.fromEntries(SIGNAL_NAMES.map((name) => [name, z.enum(SIGNAL_EFFECTS).optional()])) as Record<
    SignalName,
    z.ZodOptional<z.ZodEnum<{ [E in SignalEffect]: E }>>
  >,
);

/** What an issuer of humans tells us by Shared Signals, as the trust file writes it. */
export const sharedSignalsWire = z
  .strictObject({
    audience: oneOrMany(textValue, TRUST_LIMITS.audiences).optional(),
    transmitter: webUrl.optional(),
    jwks: z.strictObject({ keys: z.array(publicJwkValue).min(1).max(TRUST_LIMITS.keys) }).optional(),
    jwks_uri: urlValue({ schemes: ["https", "http"], query: true }).optional(),
    algorithms: z.array(z.enum(JWS_ALGORITHMS)).min(1).max(JWS_ALGORITHMS.length).optional(),
    subject_issuers: oneOrMany(textValue, TRUST_LIMITS.audiences).optional(),
    secret_hash: z
      .string()
      .regex(/^sha256:[0-9a-f]{64}$/, { error: "must be sha256: and 64 hexadecimal digits" })
      .optional(),
    on: onValue.optional(),
  })
  .superRefine((wire, ctx) => {
    if (wire.audience === undefined) ctx.addIssue({ code: "custom", message: "is missing", path: ["audience"] });
    if (wire.jwks !== undefined && wire.jwks_uri !== undefined)
      ctx.addIssue({ code: "custom", message: "and jwks exclude each other", path: ["jwks_uri"] });
  });

type SharedSignalsFields = z.infer<typeof sharedSignalsWire>;

/** What is wrong between the entry and its issuer, each at the member to change. @param isInternal as the issuer has it */
export function* sharedSignalsFaults(wire: SharedSignalsFields, isInternal: boolean): Generator<[string[], string]> {
  for (const key of ["transmitter", "jwks_uri"] as const) {
    const url = wire[key];
    if (url?.startsWith("http:") && !(isInternal && isLoopbackUrl(url)))
      yield [["shared_signals", key], "must be https"];
  }
}

/** @param issuerUrl the issuer's own `iss`: whom its events speak of, and who sends them where the entry names nobody else */
export function toSharedSignals(wire: SharedSignalsFields, issuerUrl: string): SharedSignals {
  const on: Partial<Record<SignalName, SignalEffect>> = {};
  for (const name of SIGNAL_NAMES) {
    const effect = wire.on?.[name];
    if (effect !== undefined) on[name] = effect;
  }
  return {
    audience: wire.audience === undefined ? [] : asList(wire.audience),
    transmitter: wire.transmitter ?? issuerUrl,
    ...(wire.jwks !== undefined && { jwks: { keys: wire.jwks.keys as PublicJwk[] } }),
    ...(wire.jwks_uri !== undefined && { jwksUri: wire.jwks_uri }),
    ...(wire.algorithms !== undefined && { algorithms: wire.algorithms }),
    subjectIssuers: [issuerUrl, ...(wire.subject_issuers === undefined ? [] : asList(wire.subject_issuers))],
    ...(wire.secret_hash !== undefined && { secretHash: wire.secret_hash }),
    on,
  };
}
