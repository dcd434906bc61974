import { InvalidTargetError } from "./errors.ts";
import type { Form } from "./form.ts";
import { isObjectName } from "./scope.ts";

/** Longest target, in characters (A-TX-10). */
export const TARGET_MAX_CHARACTERS = 2048;

/** RFC 3986 §2: what a URI can consist of, without `#`. */
const URI = /^[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?[\]@!$&'()*+,;=%]+$/;
const BROKEN_ESCAPE = /%(?![0-9A-Fa-f]{2})/;

/**
 * The one target of a request, as it was sent: an absolute URI, or as `audience` a resource's name. Naming the same target
 * several times is naming it once.
 *
 * @param names what else an `audience` may be: a trust domain, which is neither
 * @throws {InvalidTargetError} `target_missing`, `target_several`, `target_malformed` (relative, with a fragment or user
 * information, longer than 2 KiB), `target_reserved`
 * @see RFC 8707 §2, RFC 8693 §2.1, CONTRACT §2 rule 4
 */
export function readTarget(form: Form, names: readonly string[] = []): string {
  const resources = form.getAll("resource");
  const audiences = form.getAll("audience");
  const all = [...resources, ...audiences];
  const first = all[0];
  if (first === undefined) throw new InvalidTargetError({ reason: "target_missing" });
  if (all.some(isReservedTarget)) throw new InvalidTargetError({ reason: "target_reserved" });
  const isAudience = (text: string): boolean => isObjectName(text) || isTargetUri(text) || names.includes(text);
  const isSound = resources.every(isTargetUri) && audiences.every(isAudience);
  if (!isSound) throw new InvalidTargetError({ reason: "target_malformed" });
  if (new Set(all.map(canonicalTarget)).size > 1) {
    throw new InvalidTargetError({ reason: "target_several", targets: all.length });
  }
  return first;
}

/** Whether the text can be a resource identifier: an absolute URI without fragment and user information, at most 2 KiB. */
export function isTargetUri(text: string): boolean {
  if (text.length > TARGET_MAX_CHARACTERS || !URI.test(text) || BROKEN_ESCAPE.test(text)) return false;
  return !authorityOf(text).includes("@");
}

/**
 * One spelling of a resource identifier: scheme and host in lower case, no default port, no slash after a bare host. Path
 * and query stay as they are. Registry and requests are compared in this form; tokens carry the configured one.
 *
 * @see RFC 8707 §2, RFC 3986 §6.2.2.1 and §6.2.3; MCP clients send `https://host/` for `https://host`
 */
export function canonicalTarget(target: string): string {
  const slashes = target.indexOf("://");
  if (slashes < 0) return target;
  const scheme = target.slice(0, slashes).toLowerCase();
  const authority = authorityOf(target);
  const rest = target.slice(slashes + 3 + authority.length);
  const defaultPort = scheme === "https" ? ":443" : scheme === "http" ? ":80" : "";
  let host = authority.toLowerCase();
  if (defaultPort !== "" && host.endsWith(defaultPort)) host = host.slice(0, -defaultPort.length);
  return `${scheme}://${host}${rest === "/" ? "" : rest}`;
}

const RESERVED = [
  // AWS, in every region and partition, and its SAML audience
  /^(?:https?:\/\/)?(?:[a-z0-9-]+\.)*sts(?:\.[a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?(?=$|[:/?])/,
  /^(?:https:\/\/signin\.aws\.amazon\.com\/|urn:amazon:webservices)/,
  // Azure, public and national clouds
  /^api:\/\/azureadtokenexchange/,
  // Google workload identity pools
  /^(?:https?:)?\/\/(?:iam|sts|iamcredentials)\.googleapis\.com(?=$|[:/?])/,
  /^(?:iam|sts|iamcredentials)\.googleapis\.com(?=$|[:/?])/,
];

/**
 * Whether the text is an audience at which a cloud's own STS takes tokens: one of ours addressed there would be a way
 * around every grant.
 *
 * @see CONTRACT §4
 */
export function isReservedTarget(text: string): boolean {
  if (text.length > TARGET_MAX_CHARACTERS) return false;
  const lower = text.toLowerCase();
  return RESERVED.some((pattern) => pattern.test(lower));
}

function authorityOf(target: string): string {
  const slashes = target.indexOf("://");
  if (slashes < 0) return "";
  const rest = target.slice(slashes + 3);
  const end = rest.search(/[/?#]/);
  return end < 0 ? rest : rest.slice(0, end);
}
