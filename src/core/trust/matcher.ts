import { compileGlob } from "./glob.ts";
import type { Glob } from "./glob.ts";
import type { ClaimMatcher, ClaimMatchers } from "./model.ts";
import type { VerifiedClaims } from "./subject.ts";

/** A value that a claim can be compared with. */
export type Scalar = string | number | boolean;

/** One claim's condition, made ready. */
export interface CompiledMatcher {
  readonly claim: string;
  /** Values that fit exactly; together with `globs` any one suffices. */
  readonly exact: readonly Scalar[];
  readonly globs: readonly Glob[];
  readonly absent: boolean;
}

/**
 * What a claim that is a list means. `strict`: it never fits a scalar; trust rules read so, for no platform identifies a
 * workload by a list, and a list where a text was expected is a forgery or a mistake (A-OIDC-12). `member`: it fits when
 * one of its elements does; `on_behalf_of` and `subject_from` read so, for IdPs send groups and roles as lists.
 */
export type ListReading = "strict" | "member";

/** Makes matchers ready. All of them must fit. */
export function compileMatchers(matchers: ClaimMatchers): readonly CompiledMatcher[] {
  return Object.entries(matchers).map(([claim, matcher]) => compileMatcher(claim, matcher));
}

/** One for all: a million rules have none. */
const NO_GLOBS: readonly Glob[] = [];

function compileMatcher(claim: string, matcher: ClaimMatcher): CompiledMatcher {
  if (typeof matcher === "object" && "absent" in matcher) return { claim, exact: [], globs: [], absent: true };
  const exact: Scalar[] = [];
  const globs: Glob[] = [];
  for (const value of Array.isArray(matcher) ? matcher : [matcher]) {
    if (typeof value !== "object") exact.push(value);
    // A pattern without a star is the text itself, and can be looked up.
    else if (value.like.includes("*")) globs.push(compileGlob(value.like));
    else exact.push(value.like);
  }
  return { claim, exact, globs: globs.length === 0 ? NO_GLOBS : globs, absent: false };
}

/**
 * Whether the claims fit all matchers. Types are compared strictly, nothing is coerced, and an absent claim satisfies
 * nothing but `{absent: true}` (INV-06).
 */
export function matchClaims(matchers: readonly CompiledMatcher[], claims: VerifiedClaims, lists: ListReading): boolean {
  return matchers.every((matcher) => claimFits(matcher, claims, lists));
}

function claimFits(matcher: CompiledMatcher, claims: VerifiedClaims, lists: ListReading): boolean {
  const value = readClaim(claims, matcher.claim);
  if (matcher.absent) return value === undefined;
  if (isEmailName(matcher.claim) && !isProvenEmail(claims, matcher.claim, value)) return false;
  if (lists === "member" && Array.isArray(value)) return value.some((element) => scalarFits(matcher, element));
  return scalarFits(matcher, value);
}

function scalarFits(matcher: CompiledMatcher, value: unknown): boolean {
  if (matcher.exact.some((wanted) => wanted === value)) return true;
  return typeof value === "string" && matcher.globs.some((glob) => glob.matches(value));
}

/**
 * A claim by its name: the member of exactly that name first (`kubernetes.io`, `https://x/y`), else a step into the object
 * that the text before some dot names, longest first. Own members only; lists are not stepped into.
 *
 * @returns undefined when there is none
 */
export function readClaim(claims: VerifiedClaims, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1)) {
    const outer = name.slice(0, dot);
    if (!Object.hasOwn(claims, outer)) continue;
    const inner = claims[outer];
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) continue;
    const found = readClaim(inner as VerifiedClaims, name.slice(dot + 1));
    if (found !== undefined) return found;
  }
  return undefined;
}

function isEmailName(claim: string): boolean {
  return claim === "email" || claim.endsWith(".email");
}

/**
 * An address proves something only if it has one `@` and its issuer does not deny it: `email_verified`, where it is sent,
 * must be the boolean `true`; `"true"` and `1` are not (A-OIDC-25).
 */
function isProvenEmail(claims: VerifiedClaims, claim: string, value: unknown): boolean {
  if (typeof value !== "string" || value.split("@").length !== 2) return false;
  const verified = readClaim(claims, `${claim}_verified`);
  return verified === undefined || verified === true;
}
