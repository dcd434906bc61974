/** A SPIFFE ID taken apart. `text` is the whole of it, byte for byte as it was. */
export interface SpiffeId {
  readonly text: string;
  readonly trustDomain: string;
  /** With its leading slash; empty for the trust domain itself. */
  readonly path: string;
}

/** SPIFFE ID §2.3: implementations must take up to 2,048 bytes and should make no longer ones. */
const MAX_BYTES = 2048;
/** SPIFFE ID §2.1. */
const MAX_TRUST_DOMAIN_BYTES = 255;

// One character class each and no nesting: linear in the length of the text.
const SHAPE = /^spiffe:\/\/([a-z0-9._-]+)((?:\/[A-Za-z0-9._-]+)*)$/;

/**
 * Reads a SPIFFE ID strictly and compares nothing: no lower-casing, no decoding, no URL parser, so that two texts are the same
 * identity only if they are the same bytes (A-OIDC-21).
 *
 * @returns undefined for anything that is not one: upper case in the trust domain, a port, user info, an empty, `.` or `..`
 * segment, a trailing slash, percent-encoding, a query or a fragment
 * @see SPIFFE ID §2
 */
export function parseSpiffeId(text: string): SpiffeId | undefined {
  if (text.length > MAX_BYTES) return undefined;
  const match = SHAPE.exec(text);
  if (match === null) return undefined;
  const [, trustDomain = "", path = ""] = match;
  if (trustDomain.length > MAX_TRUST_DOMAIN_BYTES) return undefined;
  if (path.split("/").some((segment) => segment === "." || segment === "..")) return undefined;
  return { text, trustDomain, path };
}
