/** Somebody signs in at a real issuer process, step by step, so that a test can change any of them. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { OAuthError } from "../../src/core/oauth/errors.ts";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import type { Issuer } from "../../src/core/trust/model.ts";
import { createSignIn, type SignedInPerson, type SignIn } from "../../src/operators/sign-in.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createEgress } from "../../src/system/egress.ts";
import { issuerEntry, openFederation, OUR_ISSUER, type OpenFederation } from "../federation/open-federation.ts";
import { testDatabase, type Cleanup } from "../support/database.ts";
import { startIssuer, type MintOptions, type TestIssuer } from "../support/oidc-issuer.ts";

export const CLIENT = "0oa1console";
export const CALLBACK = `${OUR_ISSUER}/console/callback`;

/** A sign-in that was begun: what the provider got to see, and what the browser keeps. */
export interface Begun {
  readonly location: URL;
  readonly param: (name: string) => string;
  /** The `Cookie` header. */
  readonly cookies: string;
  readonly setCookie: string;
}

/** How the provider's answer differs from a good one. */
export interface Changes {
  readonly claims?: Record<string, unknown>;
  readonly mint?: MintOptions;
  /** In place of the ID token. */
  readonly idToken?: string;
  readonly answer?: Record<string, unknown>;
}

export interface SignInStage {
  readonly okta: TestIssuer;
  readonly other: TestIssuer;
  readonly federation: OpenFederation;
  readonly signIn: SignIn;
  now(): number;
  /** Changes the entry of `okta`. */
  put(changes: Partial<Issuer>): void;
  begin(o?: { issuer?: string; fresh?: boolean; returnTo?: string }): Promise<Begun>;
  /** The human signs in: the provider makes a code. @returns the query with which the browser comes back */
  approve(begun: Begun, changes?: Changes, at?: TestIssuer): Promise<URLSearchParams>;
  complete(query: URLSearchParams | string, begun?: { readonly cookies: string }): Promise<SignedInPerson>;
  /** All of it. */
  walk(o?: { fresh?: boolean; returnTo?: string } & Changes): Promise<SignedInPerson>;
  /** Another replica: the same database and secret. */
  replica(): SignIn;
}

export async function signInStage(t: Cleanup, issuerUrl = OUR_ISSUER): Promise<SignInStage> {
  const [okta, other, { db }] = await Promise.all([startIssuer(t), startIssuer(t), testDatabase(t)]);
  const human = (name: string, issuer: TestIssuer, changes: Partial<Issuer> = {}): Issuer =>
    issuerEntry(issuer, { name, identifies: "humans", audience: ["api://ephor"], clientId: CLIENT, ...changes });
  const egress = createEgress();
  const federation = openFederation(
    { after: (fn: () => unknown) => t.after(fn) } as never,
    {
      issuers: [
        human("okta", okta),
        human("other", other),
        issuerEntry("https://ci.example", { name: "ci" }),
        issuerEntry("https://silent.example", { name: "silent", identifies: "humans" }),
      ],
    },
    { egress },
  );
  const secret = randomBytes(32);
  const make = (): SignIn =>
    createSignIn({
      db,
      clock: createDatabaseClock(federation.clock),
      trust: () => federation.trust,
      federation: federation.federation,
      egress,
      issuerUrl,
      secret: () => secret,
    });
  const signIn = make();
  const made: SignInStage = {
    okta,
    other,
    federation,
    signIn,
    now: federation.now,
    put: (changes) => federation.put({ issuers: [human("okta", okta, changes)] }),
    async begin({ issuer = "okta", fresh = false, returnTo = "/console/approvals/apr_1" } = {}) {
      const begun = await signIn.begin(issuer, { returnTo, fresh });
      assert.ok(begun);
      const location = new URL(begun.location);
      return {
        location,
        param: (name) => location.searchParams.get(name) ?? "",
        cookies: `a=b; ${begun.cookie.split(";")[0] ?? ""}`,
        setCookie: begun.cookie,
      };
    },
    async approve(begun, { claims = {}, mint = {}, idToken, answer = {} } = {}, at = okta) {
      const code = randomBytes(16).toString("hex");
      const token =
        idToken ??
        at.mint(
          {
            sub: "00u1ab",
            aud: CLIENT,
            nonce: begun.param("nonce"),
            auth_time: federation.now(),
            groups: ["support"],
            email: "dana@acme.example",
            email_verified: true,
            ...claims,
          },
          { now: federation.now(), ...mint },
        );
      await at.issueCode({
        code,
        clientId: begun.param("client_id"),
        redirectUri: begun.param("redirect_uri"),
        challenge: begun.param("code_challenge"),
        answer: { token_type: "Bearer", access_token: "opaque", id_token: token, ...answer },
      });
      return new URLSearchParams({ code, state: begun.param("state") });
    },
    complete: (query, begun) => signIn.complete(query.toString(), begun?.cookies),
    async walk({ fresh, returnTo, ...changes } = {}) {
      const begun = await made.begin({
        ...(fresh !== undefined && { fresh }),
        ...(returnTo !== undefined && { returnTo }),
      });
      return made.complete(await made.approve(begun, changes), begun);
    },
    replica: make,
  };
  return made;
}

/** Asserts that a sign-in is refused for this reason. */
export async function refusedFor(promise: Promise<unknown>, reason: Reason, label = ""): Promise<void> {
  await assert.rejects(
    promise,
    (error) => {
      assert.ok(error instanceof OAuthError, `${label}: ${String(error)}`);
      assert.equal(error.reason, reason, label);
      return true;
    },
    label,
  );
}
