/**
 * A path that everybody reads alike. What is decided on is what the upstream receives, byte for byte, so a path that two
 * servers could resolve differently is no path here (A-PRX-06, INV-18).
 */

/** Characters of a path as RFC 3986 §3.3 has them, without `;`, whose parameters some servers cut off. */
const PATH = /^\/(?:[A-Za-z0-9._~!$&'()*+,=:@/-]|%[0-9A-Fa-f]{2})*$/;
/** Letters, digits, `-._~`: encoding them is a second spelling of the same path (RFC 3986 §6.2.2.2). */
const UNRESERVED = /[A-Za-z0-9._~-]/;
/** Separators of some server, its escape character, and what ends a string in C. */
const NEVER_ENCODED = new Set(["/", "\\", "%", ";", "?", "#"]);

/**
 * The decoded segments of a path.
 *
 * @param path percent-encoded, beginning with `/`
 * @returns undefined for one that is not canonical: empty or dot segments, encoded separators, double encoding, control
 *   characters, invalid UTF-8, needless encoding
 */
export function segmentsOf(path: string): readonly string[] | undefined {
  if (!PATH.test(path)) return undefined;
  const encoded = path.slice(1).split("/");
  const segments: string[] = [];
  for (const [at, text] of encoded.entries()) {
    // Only the last may be empty: a path that ends in `/`.
    if (text === "" && at < encoded.length - 1) return undefined;
    const segment = decoded(text);
    if (segment === undefined || segment === "." || segment === "..") return undefined;
    segments.push(segment);
  }
  return segments;
}

function decoded(text: string): string | undefined {
  if (!text.includes("%")) return text;
  for (const [triplet] of text.matchAll(/%[0-9A-Fa-f]{2}/g)) {
    const code = Number.parseInt(triplet.slice(1), 16);
    const character = String.fromCharCode(code);
    if (code < 0x20 || code === 0x7f || NEVER_ENCODED.has(character) || (code < 0x80 && UNRESERVED.test(character)))
      return undefined;
  }
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** What may stand in a query: printable ASCII without quotes, brackets of markup, and a second `#` (RFC 3986 §3.4 and a little more). */
const QUERY = /^[\x21\x23-\x3b\x3d\x3f-\x5b\x5d-\x7e]*$/;

/** Whether a query can be sent on as it is. */
export function isPlainQuery(query: string): boolean {
  return QUERY.test(query) && !query.includes("#");
}

/**
 * The parameters of a query, each name once, decoded as forms are. A name that stands there several times has its values in
 * a list, in order.
 *
 * @returns undefined where it cannot be decoded
 */
export function parametersOf(query: string): Readonly<Record<string, string | readonly string[]>> | undefined {
  const found = Object.create(null) as Record<string, string | string[]>;
  for (const part of query.split("&")) {
    if (part === "") continue;
    const mark = part.indexOf("=");
    try {
      const name = decodeURIComponent((mark < 0 ? part : part.slice(0, mark)).replaceAll("+", " "));
      const value = decodeURIComponent((mark < 0 ? "" : part.slice(mark + 1)).replaceAll("+", " "));
      if (name === "__proto__") return undefined;
      const before = found[name];
      if (before === undefined) found[name] = value;
      else if (typeof before === "string") found[name] = [before, value];
      else before.push(value);
    } catch {
      return undefined;
    }
  }
  return found;
}
