import { createHash } from "node:crypto";
import { AccessDeniedError, TemporarilyUnavailableError, type RefusalDetail } from "../core/oauth/errors.ts";
import { readForm } from "../core/oauth/form.ts";
import { JsonError, readJson } from "../core/token/json.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Issuer } from "../core/trust/model.ts";
import { humanSub, type Person } from "../core/trust/person.ts";
import type { VerifiedClaims } from "../core/trust/subject.ts";
import type { Db } from "../db/database.ts";
import type { Federation } from "../federation/federation.ts";
import type { VerifiedIdToken } from "../federation/id-token.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { EgressError } from "../system/egress-error.ts";
import type { Egress } from "../system/egress.ts";
import { constantTimeEqual, sha256Base64url } from "../system/hash.ts";
import { randomToken } from "../system/random.ts";
import { openState, sealState, secretsOf, SIGN_IN_SECONDS, signInCookie, type SignInState } from "./sign-in-state.ts";

/** Bounds of a sign-in, each with its reason. */
const LIMITS = {
  /** 256 bits: nothing to guess. 32 bytes are 43 characters, the least that RFC 7636 §4.1 takes. */
  randomBytes: 32,
  /** Longest code, in characters. */
  code: 4_096,
  /** Longest page to go back to, in characters. */
  returnTo: 512,
  /** Parameters that an identity provider sends back; most send three, some ten. */
  parameters: 32,
  /** Bytes of a token endpoint's answer: an ID token with many groups, an access token, a refresh token. */
  answerBytes: 100 * 1024,
  answerMs: 5_000,
} as const;

/** Who it is, when, and how to reach him; groups are what providers put among these by themselves. */
const SCOPE = "openid profile email";
/** Where the identity provider sends the browser back to, below our issuer. */
const CALLBACK = "/console/callback";
/** Where somebody goes on who came from nowhere. */
const START_PAGE = "/console";
/** Claims that say something about the token and nothing about the human. */
const OF_THE_TOKEN: ReadonlySet<string> = new Set([
  "iss",
  "aud",
  "azp",
  "exp",
  "iat",
  "nbf",
  "jti",
  "nonce",
  "at_hash",
  "c_hash",
  "s_hash",
  "auth_time",
]);

/** Somebody on his way in. */
export interface SignInBegun {
  /** Where to send the browser. */
  readonly location: string;
  /** The `Set-Cookie` value by which it is known when it comes back. */
  readonly cookie: string;
}

/** Somebody who is in. */
export interface SignedInPerson {
  readonly person: Person;
  /** Of the issuer where it was begun and ended. */
  readonly issuerUrl: string;
  /** A page of ours, below the issuer's path. */
  readonly returnTo: string;
  /** The `Set-Cookie` value that takes what was remembered from the browser. */
  readonly cookie: string;
}

/** Signing in at identity providers. What happens afterwards is the session's matter. */
export interface SignIn {
  /** The issuers at which people sign in, by name. */
  issuers(): readonly string[];
  /**
   * Begins one.
   *
   * @param order.fresh the human must prove once more who they are
   * @returns undefined where there is no such issuer
   * @throws {TemporarilyUnavailableError} `token_issuer_unreachable`
   */
  begin(issuer: string, order: { returnTo: string; fresh: boolean }): Promise<SignInBegun | undefined>;
  /**
   * Ends one.
   *
   * @param query of the callback, as the browser sent it
   * @param cookies the `Cookie` header
   * @throws {AccessDeniedError} `sign_in_state`, `sign_in_expired`, `replayed`, `sign_in_mixed_up`, `sign_in_refused`,
   * `sign_in_nonce`, `sign_in_too_old`, `token_…`
   * @throws {InvalidRequestError} for a query that is no form
   * @throws {TemporarilyUnavailableError} `token_issuer_unreachable`
   */
  complete(query: string | undefined, cookies: string | undefined): Promise<SignedInPerson>;
  /** The `Set-Cookie` value that takes what was remembered from the browser, for a sign-in that failed. */
  readonly forget: string;
}

interface SignInDeps {
  readonly db: Pick<Db, "query">;
  readonly clock: Pick<DatabaseClock, "now">;
  readonly trust: () => TrustIndex;
  readonly federation: Pick<Federation, "signInEndpoints" | "verifyIdToken">;
  readonly egress: Pick<Egress, "send">;
  /** Our issuer identifier. */
  readonly issuerUrl: string;
  /** Shared by all replicas; read at each use. */
  readonly secret: () => Uint8Array;
}

/**
 * Authorization code with PKCE, as a public client.
 *
 * @see OpenID Connect Core 1.0 §3.1, RFC 7636, RFC 9207, RFC 9700 §2.1
 */
export function createSignIn(deps: SignInDeps): SignIn {
  const cookieOf = signInCookie(deps.issuerUrl.startsWith("https:"));
  return {
    issuers: () =>
      deps
        .trust()
        .issuers()
        .filter(signsPeopleIn)
        .map(({ name }) => name)
        .toSorted(),
    async begin(name, { returnTo, fresh }) {
      const issuer = deps.trust().issuerByName(name);
      if (issuer === undefined || !signsPeopleIn(issuer)) return undefined;
      const { authorization } = await refusing(() => deps.federation.signInEndpoints(issuer));
      const state: SignInState = {
        issuer: name,
        url: issuer.url,
        clientId: issuer.clientId,
        state: randomToken(LIMITS.randomBytes),
        returnTo: pageOfOurs(returnTo),
        fresh,
        begunAt: deps.clock.now(),
      };
      return {
        location: authorizationUrl(authorization, { deps, state, issuer }),
        cookie: cookieOf.set(sealState(deps.secret(), state)),
      };
    },
    async complete(query, cookies) {
      const answer = readAnswer(query);
      const state = rememberedState(deps, cookieOf.read(cookies), answer.state);
      await spend(deps, state);
      const issuer = standing(deps.trust(), state);
      const token = await redeemed(deps, { answer, state, issuer });
      const verified = await refusing(() =>
        deps.federation.verifyIdToken(token, {
          issuer: issuer.name,
          clientId: state.clientId,
          nonce: secretsOf(deps.secret(), state).nonce,
          begunAt: state.begunAt,
          fresh: state.fresh,
        }),
      );
      return { person: personOf(verified), issuerUrl: state.url, returnTo: state.returnTo, cookie: cookieOf.forget };
    },
    forget: cookieOf.forget,
  };
}

type SigningIssuer = Issuer & { readonly url: string; readonly clientId: string };

function signsPeopleIn(issuer: Issuer): issuer is SigningIssuer {
  return issuer.identifies === "humans" && issuer.url !== undefined && issuer.clientId !== undefined;
}

function authorizationUrl(
  endpoint: string,
  { deps, state, issuer }: { deps: SignInDeps; state: SignInState; issuer: SigningIssuer },
): string {
  const { nonce, verifier } = secretsOf(deps.secret(), state);
  const url = new URL(endpoint);
  const age = state.fresh ? 0 : issuer.subjectMaxAgeSeconds;
  const parameters: Record<string, string> = {
    response_type: "code",
    client_id: issuer.clientId,
    redirect_uri: `${deps.issuerUrl}${CALLBACK}`,
    scope: SCOPE,
    state: state.state,
    nonce,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    // Makes the provider say when the human signed in.
    ...(age !== undefined && { max_age: String(age) }),
    // Some providers do not heed `max_age=0`.
    ...(state.fresh && { prompt: "login" }),
  };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  return url.href;
}

interface CallbackAnswer {
  readonly state: string | undefined;
  readonly code: string | undefined;
  readonly iss: string | undefined;
  readonly error: string | undefined;
}

function readAnswer(query: string | undefined): CallbackAnswer {
  const form = readForm(new TextEncoder().encode(query ?? ""), { repeatable: [], maxParameters: LIMITS.parameters });
  return { state: form.get("state"), code: form.get("code"), iss: form.get("iss"), error: form.get("error") };
}

/** What was remembered of the sign-in that this answer is of. */
function rememberedState(deps: SignInDeps, cookie: string | undefined, given: string | undefined): SignInState {
  const state = cookie === undefined ? undefined : openState(deps.secret(), cookie);
  if (state === undefined || given === undefined || !constantTimeEqual(given, state.state))
    throw refusal({ reason: "sign_in_state" });
  if (deps.clock.now() >= state.begunAt + SIGN_IN_SECONDS)
    throw refusal({ reason: "sign_in_expired", issuer: state.issuer });
  return state;
}

/** A sign-in ends once, over all replicas: a cookie that was copied, and a page that is loaded again, are too late. */
async function spend({ db }: SignInDeps, { state, issuer, begunAt }: SignInState): Promise<void> {
  const spent = await db.query(
    "insert into ephor.replay (key, holder, exp) values ($1, $2, $3) on conflict (key) do nothing returning key",
    [`sign-in:${sha256Base64url(state)}`, "sign-in", begunAt + SIGN_IN_SECONDS],
  );
  if (spent.length === 0) throw refusal({ reason: "replayed", issuer });
}

/** The issuer's entry, if it is still the one that the sign-in was begun with. */
function standing(trust: TrustIndex, state: SignInState): SigningIssuer {
  const issuer = trust.issuerByName(state.issuer);
  if (issuer === undefined || !signsPeopleIn(issuer) || issuer.url !== state.url || issuer.clientId !== state.clientId)
    throw refusal({ reason: "token_issuer_disabled", issuer: state.issuer });
  return issuer;
}

/** Gives the code for an ID token, to the endpoint of the issuer that the sign-in was begun at. */
async function redeemed(
  deps: SignInDeps,
  { answer, state, issuer }: { answer: CallbackAnswer; state: SignInState; issuer: SigningIssuer },
): Promise<string> {
  const { code, iss, error } = answer;
  const { name } = issuer;
  const endpoints = await refusing(() => deps.federation.signInEndpoints(issuer));
  // RFC 9207 §2.4: before anything else in it is believed. One that always says its name has not sent what does not.
  if (iss === undefined ? endpoints.sendsIss : iss !== issuer.url)
    throw refusal({ reason: "sign_in_mixed_up", issuer: name });
  if (error !== undefined) throw refusal({ reason: "sign_in_refused", issuer: name, error: errorCode(error) });
  if (code === undefined || code.length > LIMITS.code) throw refusal({ reason: "sign_in_refused", issuer: name });
  const response = await deps.egress
    .send({
      method: "POST",
      url: endpoints.token,
      headers: { accept: "application/json", "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({
        grant_type: "authorization_code",
        code,
        redirect_uri: `${deps.issuerUrl}${CALLBACK}`,
        client_id: issuer.clientId,
        code_verifier: secretsOf(deps.secret(), state).verifier,
      }).toString(),
      internal: issuer.internal,
      maxBytes: LIMITS.answerBytes,
      timeoutMs: LIMITS.answerMs,
    })
    .catch((cause: unknown) => {
      if (!(cause instanceof EgressError)) throw cause;
      throw new TemporarilyUnavailableError({ reason: "token_issuer_unreachable", issuer: name }, { cause });
    });
  const members = readMembers(response.body);
  if (response.status >= 500)
    throw new TemporarilyUnavailableError({ reason: "token_issuer_unreachable", issuer: name });
  const { id_token: idToken, error: refused } = members;
  if (response.status !== 200 || typeof idToken !== "string") {
    const told = typeof refused === "string" ? errorCode(refused) : "none";
    throw refusal({ reason: "sign_in_refused", issuer: name, status: response.status, error: told });
  }
  return idToken;
}

function readMembers(body: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const value = readJson(body, { allowUnsafeIntegers: true });
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {};
  } catch (error) {
    if (error instanceof JsonError) return {};
    throw error;
  }
}

/** A provider's error code; what is none is not repeated (RFC 6749 §5.2). */
function errorCode(text: string): string {
  return /^[a-z_]{1,64}$/.test(text) ? text : "other";
}

function personOf({ issuer, sub, claims, authTime }: VerifiedIdToken): Person {
  const { email, email_verified: isVerified } = claims;
  const isProven = typeof email === "string" && isVerified === true;
  const kept: VerifiedClaims = Object.fromEntries(
    Object.entries(claims).filter(([name]) => !OF_THE_TOKEN.has(name) && (isProven || name !== "email")),
  );
  return {
    issuer: issuer.name,
    sub: humanSub(issuer.name, sub),
    authTime,
    email: isProven ? email : undefined,
    claims: kept,
  };
}

function refusal(detail: RefusalDetail, options?: { cause: unknown }): AccessDeniedError {
  return new AccessDeniedError(detail, options);
}

/** A token that is refused is a sign-in that is. */
async function refusing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof RefusedToken)) throw cause;
    const detail = { ...cause.facts, reason: cause.reason };
    throw cause.reason === "token_issuer_unreachable"
      ? new TemporarilyUnavailableError(detail, { cause })
      : refusal(detail, { cause });
  }
}

/** A path below `/console`; anything else is the start page, so that nobody is sent off to somewhere. */
function pageOfOurs(path: string): string {
  const isOurs = path.length <= LIMITS.returnTo && /^\/console(?:[/?][\x21\x23-\x5b\x5d-\x7e]*)?$/.test(path);
  return isOurs && !path.includes("//") ? path : START_PAGE;
}
