import type { Issuer } from "../core/trust/model.ts";
import type { Egress, EgressResponse } from "../system/egress.ts";
import { discoverJwksUri, type WellKnown } from "./discovery.ts";
import { fetchIssuerDocument, IssuerDocumentError } from "./issuer-document.ts";
import { readKeySet, type KeyUse, type SignerKey } from "./key-set.ts";
import { LIMITS } from "./limits.ts";

/** Keys as an issuer published them just now. */
export interface FetchedKeys {
  readonly keys: readonly SignerKey[];
  /** How long they need not be asked for again, in milliseconds. */
  readonly freshForMs: number;
}

/**
 * Fetches an issuer's keys: from its `jwks_uri` where the trust entry has one, else where discovery says. Both documents
 * together may take {@link LIMITS.fetchMs}.
 *
 * @throws {IssuerDocumentError}
 */
export async function fetchKeys(
  egress: Egress,
  issuer: Issuer,
  o: { use: KeyUse; nowMs: () => number; wellKnown: WellKnown },
): Promise<FetchedKeys> {
  const startedAtMs = o.nowMs();
  const jwksUri = issuer.jwksUri ?? (await discoverJwksUri(egress, withUrl(issuer), o.wellKnown));
  const { members, headers } = await fetchIssuerDocument(egress, jwksUri, {
    issuer,
    maxBytes: LIMITS.jwksBytes,
    timeoutMs: Math.max(1, LIMITS.fetchMs - (o.nowMs() - startedAtMs)),
    accept: "application/jwk-set+json, application/json",
  });
  return { keys: readKeySet(members, o.use), freshForMs: freshForMs(headers) };
}

/** A SPIFFE trust domain has no discovery: apply demands `jwks` or `jwks_uri` for it. */
function withUrl(issuer: Issuer): Issuer & { readonly url: string } {
  if (issuer.url === undefined) throw new IssuerDocumentError("jwks_uri");
  return { ...issuer, url: issuer.url };
}

/** The answer's `max-age`, within our bounds; no header means the longest. */
function freshForMs(headers: EgressResponse["headers"]): number {
  const header = headers["cache-control"];
  const directives = (Array.isArray(header) ? header.join(",") : (header ?? "")).toLowerCase();
  if (/\bno-(store|cache)\b/.test(directives)) return LIMITS.keysFreshAtLeastMs;
  const maxAge = /\bmax-age="?(\d{1,9})\b/.exec(directives)?.[1];
  if (maxAge === undefined) return LIMITS.keysFreshMs;
  return Math.min(Math.max(Number(maxAge) * 1000, LIMITS.keysFreshAtLeastMs), LIMITS.keysFreshMs);
}
