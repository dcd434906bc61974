import { JsonError, readJson } from "../core/token/json.ts";
import type { Issuer } from "../core/trust/model.ts";
import type { Egress, EgressResponse } from "../system/egress.ts";
import { EgressError, type EgressFailure } from "../system/egress-error.ts";

/**
 * Why an issuer's documents brought no keys: what {@link EgressError} says, or `status` (not 200), `json` (not strict JSON, or
 * not an object), `issuer_mismatch`, `jwks_uri` (missing or not https), `keys` (no key set, or too many keys),
 * `endpoint` (one for signing in is missing or not https).
 */
export type IssuerProblem = EgressFailure | "status" | "json" | "issuer_mismatch" | "jwks_uri" | "keys" | "endpoint";

/** An issuer's document could not be had or is not to be trusted. Quotes nothing of it. */
export class IssuerDocumentError extends Error {
  readonly problem: IssuerProblem;

  constructor(problem: IssuerProblem, options?: { cause?: unknown }) {
    super(`issuer: ${problem}`, options);
    this.name = "IssuerDocumentError";
    this.problem = problem;
  }
}

/** A JSON object that an issuer published. */
export interface IssuerDocument {
  readonly members: Readonly<Record<string, unknown>>;
  readonly headers: EgressResponse["headers"];
}

/**
 * Fetches one JSON object from an issuer. The media type is not judged: cluster issuers are served from object stores that
 * call everything `octet-stream`; what is not strict JSON is refused.
 *
 * @throws {IssuerDocumentError}
 */
export async function fetchIssuerDocument(
  egress: Egress,
  url: string,
  o: { issuer: Issuer; maxBytes: number; timeoutMs: number; accept: string },
): Promise<IssuerDocument> {
  const response = await egress
    .get(url, { internal: o.issuer.internal, maxBytes: o.maxBytes, timeoutMs: o.timeoutMs, accept: o.accept })
    .catch((error: unknown) => {
      throw error instanceof EgressError ? new IssuerDocumentError(error.kind, { cause: error }) : error;
    });
  if (response.status !== 200) throw new IssuerDocumentError("status");
  return { members: readMembers(response.body), headers: response.headers };
}

function readMembers(body: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    // Numbers such as SPIFFE's sequence mean nothing to us, so their size is no reason to refuse the keys.
    value = readJson(body, { allowUnsafeIntegers: true });
  } catch (error) {
    if (error instanceof JsonError) throw new IssuerDocumentError("json", { cause: error });
    throw error;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new IssuerDocumentError("json");
  return value as Record<string, unknown>;
}
