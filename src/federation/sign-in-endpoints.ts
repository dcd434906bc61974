import { RefusedToken } from "../core/token/refused.ts";
import type { Issuer } from "../core/trust/model.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Egress } from "../system/egress.ts";
import { fetchDiscovery } from "./discovery.ts";
import { IssuerDocumentError } from "./issuer-document.ts";
import { LIMITS } from "./limits.ts";

/** Where humans of an issuer sign in, by its discovery document. */
export interface SignInEndpoints {
  readonly authorization: string;
  readonly token: string;
  /** Whether it says its name when it sends the browser back (RFC 9207 §3). */
  readonly sendsIss: boolean;
}

interface Entry {
  readonly found: Promise<SignInEndpoints>;
  /** Monotonic milliseconds from which on it is asked for again. */
  untilMs: number;
}

/**
 * The endpoints of issuers of humans. Anybody may ask us to begin a sign-in, so a document is fetched once for all who wait, and
 * after a failure not again for a while (INV-21). Kept per trust entry: one that is edited is another.
 *
 * @see OpenID Connect Discovery 1.0 §3
 */
export function createSignInEndpoints(deps: {
  readonly egress: Egress;
  readonly clock: Pick<DatabaseClock, "monotonicMs">;
}): (issuer: Issuer) => Promise<SignInEndpoints> {
  const entries = new WeakMap<Issuer, Entry>();
  return (issuer) => {
    const nowMs = deps.clock.monotonicMs();
    const known = entries.get(issuer);
    if (known !== undefined && nowMs < known.untilMs) return known.found;
    const found = fetchEndpoints(deps.egress, issuer);
    const entry: Entry = { found, untilMs: nowMs + LIMITS.keysFreshMs };
    entries.set(issuer, entry);
    found.catch(() => {
      entry.untilMs = nowMs + LIMITS.refreshCooldownMs;
    });
    return found;
  };
}

/** @throws {RefusedToken} `token_issuer_unreachable` */
async function fetchEndpoints(egress: Egress, issuer: Issuer): Promise<SignInEndpoints> {
  try {
    if (issuer.url === undefined) throw new IssuerDocumentError("endpoint");
    const members = await fetchDiscovery(egress, { ...issuer, url: issuer.url }, "openid-configuration");
    return {
      authorization: endpointOf(members["authorization_endpoint"], issuer),
      token: endpointOf(members["token_endpoint"], issuer),
      sendsIss: members["authorization_response_iss_parameter_supported"] === true,
    };
  } catch (cause) {
    if (!(cause instanceof IssuerDocumentError)) throw cause;
    throw new RefusedToken(
      { reason: "token_issuer_unreachable", issuer: issuer.name, problem: cause.problem },
      { cause },
    );
  }
}

/** https, or http where the entry allows what is internal; no fragment, for we add a query (RFC 6749 §3.1). */
function endpointOf(value: unknown, issuer: Issuer): string {
  const url = typeof value === "string" && URL.canParse(value) ? new URL(value) : undefined;
  const isGood =
    url !== undefined &&
    (url.protocol === "https:" || (url.protocol === "http:" && issuer.internal)) &&
    url.hash === "" &&
    url.username === "" &&
    url.password === "";
  if (!isGood) throw new IssuerDocumentError("endpoint");
  return url.href;
}
