import { InvalidRequestError, InvalidScopeError, InvalidTargetError } from "../core/oauth/errors.ts";
import type { Form } from "../core/oauth/form.ts";
import { parseScope, splitScope } from "../core/oauth/scope.ts";
import { isReservedTarget, readTarget } from "../core/oauth/target.ts";
import { TOKEN_TYPE } from "../core/oauth/vocabulary.ts";
import { readTtl } from "../core/token/lifetime.ts";
import { JsonError, readJson } from "../core/token/json.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Resource } from "../core/trust/model.ts";

/** Longest purpose, in characters (CONTRACT §5). */
const PURPOSE_MAX_CHARACTERS = 200;
/** Longest `request_details` and `request_context`, in characters: they are carried in the token. */
const CONTEXT_MAX_CHARACTERS = 2_048;

/** Where a token is to be spent. */
export type Target =
  | { readonly kind: "resource"; readonly resource: Resource }
  /** Another agent, which takes the work over. */
  | { readonly kind: "agent"; readonly name: string; readonly audience: string }
  /** Everything inside the trust domain, as a transaction token. */
  | { readonly kind: "domain"; readonly audience: string };

/** What the request asks for, parsed once. */
export interface Wanted {
  /** The target as it was named; resolved against the trust index at each decision. */
  readonly target: string;
  /** Full scopes and bare resource names, as asked. */
  readonly scopes: readonly string[];
  readonly ttlSeconds: number | undefined;
  readonly purpose: string | undefined;
  readonly tokenType: "access_token" | "jwt" | "txn_token";
  /** `tctx` and `rctx` of a transaction token. */
  readonly details: Readonly<Record<string, unknown>> | undefined;
  readonly context: Readonly<Record<string, unknown>> | undefined;
}

/**
 * Reads everything but the tokens.
 *
 * @throws {InvalidTargetError} `target_*`
 * @throws {InvalidScopeError} `scope_missing`, `scope_malformed`
 * @throws {InvalidRequestError} `ttl_out_of_range`, `purpose_too_long`, `requested_token_type_unsupported`
 */
export function readWanted(form: Form, trustDomain: string | undefined): Wanted {
  const tokenType = requestedTokenType(form, trustDomain);
  const target = readTarget(form, tokenType === "txn_token" && trustDomain !== undefined ? [trustDomain] : []);
  if (isReservedTarget(target)) throw new InvalidTargetError({ reason: "target_reserved" });
  const purpose = form.get("purpose");
  // By code points, as a person would count; control characters have no place in a claim.
  if (purpose !== undefined && ([...purpose].length > PURPOSE_MAX_CHARACTERS || /\p{Cc}/u.test(purpose))) {
    throw new InvalidRequestError({ reason: "purpose_too_long", help: "purpose is at most 200 printable characters." });
  }
  // A purpose's lone surrogates cannot occur: the form was decoded from UTF-8.
  return {
    target,
    scopes: parseScope(form.get("scope")),
    ttlSeconds: readTtl(form.get("ttl")),
    purpose,
    tokenType,
    details: tokenType === "txn_token" ? contextObject(form.get("request_details")) : undefined,
    context: tokenType === "txn_token" ? contextObject(form.get("request_context")) : undefined,
  };
}

function requestedTokenType(form: Form, trustDomain: string | undefined): Wanted["tokenType"] {
  const type = form.get("requested_token_type");
  if (type === undefined || type === TOKEN_TYPE.accessToken) return "access_token";
  if (type === TOKEN_TYPE.jwt) return "jwt";
  if (type === TOKEN_TYPE.txnToken && trustDomain !== undefined) return "txn_token";
  throw new InvalidRequestError({
    reason: "requested_token_type_unsupported",
    help: "This requested_token_type is not served.",
  });
}

function contextObject(text: string | undefined): Readonly<Record<string, unknown>> | undefined {
  if (text === undefined) return undefined;
  const malformed = (): InvalidRequestError =>
    new InvalidRequestError({
      reason: "parameter_invalid",
      help: "request_details and request_context are small JSON objects.",
    });
  if (text.length > CONTEXT_MAX_CHARACTERS) throw malformed();
  try {
    const value = readJson(new TextEncoder().encode(text));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
  }
  throw malformed();
}

/** A run of characters as long as any secret of ours; the names in scopes and targets are shorter. */
const SECRET_SIZED = /[^/?#&=: ]{41,}/g;

/**
 * A scope or target as a refusal may record it before it is known to be one. It is whatever the caller sent, which may be a
 * token in the wrong parameter (INV-15).
 */
export function recordable(text: string): string {
  return text.replace(SECRET_SIZED, "?");
}

/**
 * The target by the trust index as it is now.
 *
 * @throws {InvalidTargetError} `target_unknown`
 */
export function resolveTarget(
  trust: TrustIndex,
  wanted: Wanted,
  at: { issuer: string; trustDomain?: string | undefined },
): Target {
  const { target, tokenType } = wanted;
  if (tokenType === "txn_token") {
    if (target !== at.trustDomain) throw new InvalidTargetError({ reason: "target_unknown" });
    return { kind: "domain", audience: target };
  }
  const agents = `${at.issuer}/agents/`;
  if (target.startsWith(agents)) {
    const name = target.slice(agents.length);
    if (!trust.agent(name)) throw new InvalidTargetError({ reason: "target_unknown" });
    return { kind: "agent", name, audience: target };
  }
  const resource = trust.resourceByIdentifier(target) ?? trust.resourceByName(target);
  if (!resource) throw new InvalidTargetError({ reason: "target_unknown" });
  return { kind: "resource", resource };
}

/**
 * The asked scopes, all of this resource: full ones, and its bare name for whatever is granted there.
 *
 * @throws {InvalidScopeError} `scope_unknown` for a scope of another resource
 */
export function scopesAt(resource: Resource, scopes: readonly string[]): readonly string[] {
  for (const scope of scopes) {
    if (splitScope(scope).resource !== resource.name) {
      throw new InvalidScopeError({ reason: "scope_unknown", resource: resource.name });
    }
  }
  return scopes;
}

/**
 * Asked scopes by resource, for targets that are not one resource.
 *
 * @throws {InvalidScopeError} `scope_unknown`
 */
export function scopesByResource(
  trust: TrustIndex,
  scopes: readonly string[],
): { resource: Resource; scopes: readonly string[] }[] {
  const byName = new Map<string, string[]>();
  for (const scope of scopes) {
    const { resource } = splitScope(scope);
    byName.set(resource, [...(byName.get(resource) ?? []), scope]);
  }
  return [...byName].map(([name, own]) => {
    const resource = trust.resourceByName(name);
    if (!resource) throw new InvalidScopeError({ reason: "scope_unknown" });
    return { resource, scopes: scopesAt(resource, own) };
  });
}
