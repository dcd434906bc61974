import { z } from "zod";
import { JWS_ALGORITHMS } from "../../core/token/jws.ts";
import { TRUST_LIMITS } from "../../core/trust/limits.ts";
import { durationValue, isLoopbackUrl, nameValue, oneOrMany, textValue, urlValue } from "../../core/trust/values.ts";
import { sha256Hex } from "../../system/hash.ts";
import { ProviderError } from "../provider-error.ts";

/** Limits of one resource's settings, each with its reason. */
const LIMITS = {
  scopeCharacters: 2_000,
  /** Of RFC 8707 and RFC 8693; servers take one or two. */
  targets: 8,
  policies: 100,
} as const;

/** Hexadecimal digits of a user's mark in a secret's name: 128 bits. */
const USER_MARK_DIGITS = 32;
const USER = "{user}";

const endpointValue = urlValue({ schemes: ["https", "http"], query: true });

/** RFC 6749 §3.3, with exactly one space between tokens. */
const scopeValue = z
  .string()
  .max(LIMITS.scopeCharacters)
  .regex(/^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/, {
    error: "must be scopes with one space between them",
  });

/** An absolute URI without a fragment (RFC 8707 §2): also `api://…` and `urn:…`. */
const resourceValue = z
  .string()
  .max(TRUST_LIMITS.urlCharacters)
  .regex(/^[A-Za-z][A-Za-z0-9+.-]*:[\x21\x22\x24-\x7e]+$/, { error: "must be an absolute URI without a fragment" });

const refreshSecretValue = z.string().refine((text) => nameValue.safeParse(secretOfUser(text, "")).success, {
  error: `must be the name of a secret, in which ${USER} stands for ${USER_MARK_DIGITS} characters`,
});

const SECRET_METHODS: ReadonlySet<string> = new Set(["client_secret_basic", "client_secret_post", "private_key_jwt"]);
const IDENTITY_GRANTS: ReadonlySet<string> = new Set(["token_exchange", "jwt_bearer"]);

/** Shape of `credential: { oauth: … }`. */
export const oauthSettingsValue = z
  .strictObject({
    token_url: endpointValue,
    /** RFC 7009, and only where it ends access tokens. Without it a token lives as long as the upstream says. */
    revocation_url: endpointValue.optional(),
    /** The operator allows private addresses for both. */
    internal: z.boolean().default(false),
    client_id: textValue.optional(),
    /** `web_identity`: a token of ours is the client assertion, so that no secret is stored (RFC 7523 §2.2). */
    auth_method: z
      .enum(["client_secret_basic", "client_secret_post", "private_key_jwt", "web_identity", "none"])
      .default("client_secret_basic"),
    /** The vault's secret: the client secret, or the private key (PEM or JWK). */
    secret: nameValue.optional(),
    /** `kid` of the private key, where its JWK does not say. */
    key_id: textValue.optional(),
    /** Of the private key, where its type or its JWK would say another. */
    assertion_algorithm: z.enum(JWS_ALGORITHMS).optional(),
    /** `aud` of our assertion; `token_url` where it is absent. Some want their issuer's URL. */
    assertion_audience: textValue.optional(),
    grant: z.enum(["client_credentials", "refresh_token", "token_exchange", "jwt_bearer"]),
    /** Of whom a refresh token is used: `crm-refresh-{user}`, one for each human, or a plain name, one for all. */
    refresh_secret: refreshSecretValue.optional(),
    /** `aud` of the token of ours (`sub` = `resource|<name>`) that is the subject token, assertion or client assertion. */
    web_identity: z.strictObject({ audience: textValue }).optional(),
    /** As the upstream spells it in its answers, with all that it adds by itself. */
    scope: scopeValue.optional(),
    /** RFC 8707. */
    resource: oneOrMany(resourceValue, LIMITS.targets).optional(),
    /** RFC 8693 §2.1, and what Auth0 takes. */
    audience: oneOrMany(textValue, LIMITS.targets).optional(),
    /** Narrower scopes, by the names that grants call them by. */
    session_policies: z
      .record(nameValue, z.strictObject({ scope: scopeValue }))
      .refine((all) => Object.keys(all).length <= LIMITS.policies, {
        error: `has more than ${LIMITS.policies} policies`,
      })
      .default({}),
    /** Tokens that would live longer are refused. Without `revocation_url` this is what is left alive at most. */
    max_expires_in: durationValue.optional(),
  })
  .superRefine((settings, ctx) => {
    for (const { message, path } of problemsOf(settings)) ctx.addIssue({ code: "custom", message, path });
  });

/** Settings of `credential: { oauth: … }`, with the defaults in place. */
export type OAuthSettings = z.infer<typeof oauthSettingsValue>;

interface Problem {
  readonly message: string;
  readonly path: string[];
}

/** What each way of asking needs, and what has no use with it: a setting that does nothing is a mistake. */
function problemsOf(settings: OAuthSettings): Problem[] {
  const { auth_method: method, grant } = settings;
  const needed: readonly (readonly [keyof OAuthSettings, boolean, string])[] = [
    ["client_id", method !== "none", method],
    ["secret", SECRET_METHODS.has(method), method],
    ["refresh_secret", grant === "refresh_token", grant],
    ["web_identity", method === "web_identity" || IDENTITY_GRANTS.has(grant), `${grant} and ${method}`],
  ];
  const problems: Problem[] = needed.flatMap(([key, isNeeded, by]) => {
    if (isNeeded === (settings[key] !== undefined)) return [];
    // A public client may say who it is.
    if (!isNeeded && key === "client_id") return [];
    return [{ path: [key], message: isNeeded ? `is needed for ${by}` : `has no use with ${by}` }];
  });
  for (const key of ["key_id", "assertion_algorithm", "assertion_audience"] as const) {
    if (settings[key] !== undefined && method !== "private_key_jwt")
      problems.push({ path: [key], message: `has no use with ${method}` });
  }
  if (method === "none" && grant === "client_credentials")
    problems.push({ path: ["auth_method"], message: "must prove the client for client_credentials" });
  for (const key of ["token_url", "revocation_url"] as const) {
    const url = settings[key];
    if (url?.startsWith("http:") === true && !(settings.internal && isLoopbackUrl(url)))
      problems.push({ path: [key], message: "must be https, or a loopback address with internal: true" });
  }
  for (const [name, policy] of Object.entries(settings.session_policies)) {
    if (settings.scope === undefined || !isScopeWithin(policy.scope, settings.scope))
      problems.push({
        path: ["session_policies", name],
        message: "has a scope that the resource itself does not have",
      });
  }
  return problems;
}

/**
 * The vault's secret with a user's refresh token: `{user}` is replaced by the first 32 hexadecimal digits of the SHA-256 of
 * the lease's `sub`, so that the name tells nothing and any subject fits. In a shell: `printf %s 'okta|00u1' | sha256sum | cut -c1-32`.
 */
export function secretOfUser(pattern: string, sub: string): string {
  return pattern.replace(USER, () => sha256Hex(sub).slice(0, USER_MARK_DIGITS));
}

/** Whether a name is that of some user's secret, or of the one that all share. */
export function isSecretOfUser(pattern: string, name: string): boolean {
  const [start = "", end] = pattern.split(USER);
  if (end === undefined) return name === pattern;
  const mark = name.slice(start.length, name.length - end.length);
  return name === start + mark + end && /^[0-9a-f]+$/.test(mark) && mark.length === USER_MARK_DIGITS;
}

/** Whether a pattern gives each user another secret. */
export function isPerUser(pattern: string): boolean {
  return pattern.includes(USER);
}

/** Whether each scope of one text is in the other. */
export function isScopeWithin(scope: string, bound: string): boolean {
  const bounds = new Set(bound.split(" "));
  return scope.split(" ").every((token) => bounds.has(token));
}

/**
 * The scope that one token is asked for: the resource's, and of it only what every policy leaves.
 *
 * @throws {ProviderError} `cannot_bound`: `session_policy_unknown`, or `nothing_left`, since no scope means the default one
 */
export function scopeOf(settings: OAuthSettings, policies: readonly string[]): string | undefined {
  if (policies.length === 0) return settings.scope;
  let tokens = settings.scope?.split(" ") ?? [];
  for (const name of policies) {
    const policy = Object.hasOwn(settings.session_policies, name) ? settings.session_policies[name] : undefined;
    if (policy === undefined) throw new ProviderError("cannot_bound", { code: "session_policy_unknown" });
    const kept = policy.scope.split(" ");
    tokens = tokens.filter((token) => kept.includes(token));
  }
  if (tokens.length === 0) throw new ProviderError("cannot_bound", { code: "nothing_left" });
  return tokens.join(" ");
}
