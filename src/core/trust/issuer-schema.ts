import { z } from "zod";
import { TRUST_LIMITS } from "./limits.ts";
import type { Issuer, PublicJwk } from "./model.ts";
import { sharedSignalsFaults, sharedSignalsWire, toSharedSignals } from "./shared-signals-schema.ts";
import {
  asList,
  durationSeconds,
  durationValue,
  isLoopbackUrl,
  oneOrMany,
  publicJwkValue,
  textValue,
  urlValue,
} from "./values.ts";

/** Signature algorithms an issuer may use: asymmetric ones only (RFC 8725 §3.1, §3.2). */
const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
] as const;

/** A trust domain: lower-case letters, digits, `.`, `-` and `_`, at most 255, nothing after it (SPIFFE ID §2). */
const TRUST_DOMAIN = /^spiffe:\/\/[a-z0-9._-]{1,255}$/;

const webUrl = urlValue({ schemes: ["https", "http"], query: false });

/** An issuer as the trust file and the API write it (CONTRACT §4). */
export const issuerWire = z
  .strictObject({
    url: webUrl.optional(),
    spiffe: z.string().regex(TRUST_DOMAIN, { error: "must be a trust domain" }).optional(),
    audience: oneOrMany(textValue, TRUST_LIMITS.audiences).optional(),
    identifies: z.enum(["workloads", "humans"]).optional(),
    jwks: z.strictObject({ keys: z.array(publicJwkValue).min(1).max(TRUST_LIMITS.keys) }).optional(),
    jwks_uri: urlValue({ schemes: ["https", "http"], query: true }).optional(),
    algorithms: z.array(z.enum(ALGORITHMS)).min(1).max(ALGORITHMS.length).optional(),
    internal: z.boolean().optional(),
    single_use: z.boolean().optional(),
    max_token_age: durationValue.optional(),
    client_id: textValue.optional(),
    subject_max_age: durationValue.optional(),
    shared_signals: sharedSignalsWire.optional(),
  })
  .superRefine((wire, ctx) => {
    for (const [key, message] of issuerFaults(wire)) ctx.addIssue({ code: "custom", message, path: [key] });
    if (wire.shared_signals !== undefined) {
      for (const [path, message] of sharedSignalsFaults(wire.shared_signals, wire.internal === true))
        ctx.addIssue({ code: "custom", message, path });
    }
  });

type IssuerFields = z.infer<typeof issuerWire>;

/** What is wrong between the members of an issuer, each at the member to change. */
function* issuerFaults(wire: IssuerFields): Generator<[string, string]> {
  if ((wire.url === undefined) === (wire.spiffe === undefined)) yield ["url", "must be there, or spiffe, and not both"];
  if (wire.url !== undefined && wire.audience === undefined) yield ["audience", "is missing"];
  if (wire.jwks !== undefined && wire.jwks_uri !== undefined) yield ["jwks_uri", "and jwks exclude each other"];
  if (wire.spiffe !== undefined) {
    if (wire.jwks === undefined && wire.jwks_uri === undefined)
      yield ["jwks_uri", "or jwks is needed for a trust domain"];
    if (wire.identifies === "humans") yield ["identifies", "must be workloads for a trust domain"];
    // JWT-SVID §3.1: no EdDSA.
    if (wire.algorithms?.some((alg) => alg.startsWith("Ed")))
      yield ["algorithms", "must not have EdDSA for a trust domain"];
  }
  for (const key of ["url", "jwks_uri"] as const) {
    const url = wire[key];
    if (url?.startsWith("http:") && !(wire.internal === true && isLoopbackUrl(url))) yield [key, "must be https"];
  }
  if (wire.identifies === "humans") {
    if (wire.single_use !== undefined) yield ["single_use", "is for issuers of workloads"];
  } else {
    if (wire.client_id !== undefined) yield ["client_id", "is for issuers that identify humans"];
    if (wire.subject_max_age !== undefined) yield ["subject_max_age", "is for issuers that identify humans"];
    if (wire.shared_signals !== undefined) yield ["shared_signals", "is for issuers that identify humans"];
  }
}

/** @param issuerUrl our own issuer, the audience of a SPIFFE trust domain that names none */
export function toIssuer(name: string, wire: IssuerFields, issuerUrl: string): Issuer {
  return {
    name,
    ...(wire.url !== undefined && { url: wire.url }),
    ...(wire.spiffe !== undefined && { spiffe: wire.spiffe }),
    audience: wire.audience === undefined ? [issuerUrl] : asList(wire.audience),
    identifies: wire.identifies ?? "workloads",
    ...(wire.jwks !== undefined && { jwks: { keys: wire.jwks.keys as PublicJwk[] } }),
    ...(wire.jwks_uri !== undefined && { jwksUri: wire.jwks_uri }),
    ...(wire.algorithms !== undefined && { algorithms: wire.algorithms }),
    internal: wire.internal ?? false,
    singleUse: wire.single_use ?? false,
    ...(wire.max_token_age !== undefined && { maxTokenAgeSeconds: durationSeconds(wire.max_token_age) }),
    ...(wire.client_id !== undefined && { clientId: wire.client_id }),
    ...(wire.subject_max_age !== undefined && { subjectMaxAgeSeconds: durationSeconds(wire.subject_max_age) }),
    ...(wire.shared_signals !== undefined &&
      wire.url !== undefined && { sharedSignals: toSharedSignals(wire.shared_signals, wire.url) }),
  };
}
