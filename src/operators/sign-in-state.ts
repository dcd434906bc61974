import { createHmac } from "node:crypto";
import { z } from "zod";
import { JsonError, readJson } from "../core/token/json.ts";
import { constantTimeEqual } from "../system/hash.ts";

/** Seconds that a human may take at the identity provider. */
export const SIGN_IN_SECONDS = 600;

/** What a sign-in that was begun is remembered by, in the browser that began it. */
const stateShape = z.strictObject({
  /** The issuer's name, URL and our client id there, as they were when it was begun. */
  issuer: z.string(),
  url: z.string(),
  clientId: z.string(),
  state: z.string(),
  returnTo: z.string(),
  fresh: z.boolean(),
  /** Epoch seconds. */
  begunAt: z.int(),
});

/** What a sign-in that was begun is remembered by. */
export type SignInState = z.output<typeof stateShape>;

/** Longest sealed state, in characters: a cookie has 4,096. */
const MAX_CHARACTERS = 3_500;

/**
 * Seals it for the cookie: the browser can make none of its own. What only we may know of a sign-in is not in it, but made
 * of it each time (`secretsOf`).
 *
 * @param secret shared by all replicas
 */
export function sealState(secret: Uint8Array, state: SignInState): string {
  const text = Buffer.from(JSON.stringify(state), "utf8").toString("base64url");
  return `${text}.${digest(secret, "cookie", text)}`;
}

/** @returns undefined for what was not sealed so */
export function openState(secret: Uint8Array, sealed: string): SignInState | undefined {
  const [text = "", seal = "", ...more] = sealed.length > MAX_CHARACTERS ? [] : sealed.split(".");
  if (more.length > 0 || !constantTimeEqual(seal, digest(secret, "cookie", text))) return undefined;
  try {
    return stateShape.safeParse(readJson(Buffer.from(text, "base64url"))).data;
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
}

/** The nonce and the PKCE verifier (RFC 7636 §4.1) of a sign-in: as good as random to whoever does not hold the secret. */
export function secretsOf(secret: Uint8Array, { state }: SignInState): { nonce: string; verifier: string } {
  return { nonce: digest(secret, "nonce", state), verifier: digest(secret, "verifier", state) };
}

function digest(secret: Uint8Array, what: string, text: string): string {
  return createHmac("sha256", secret).update(`ephor sign-in ${what}\0${text}`).digest("base64url");
}

/**
 * The cookie of a sign-in that was begun. Lax and not Strict: the browser comes back from the provider by a link of another
 * site, and must bring it.
 */
export function signInCookie(isSecure: boolean) {
  // `__Host-`: no other host and no other path can have put it there (RFC 6265bis §4.1.3.2). It needs https.
  const name = isSecure ? "__Host-ephor-sign-in" : "ephor-sign-in";
  const attributes = `Path=/; HttpOnly; SameSite=Lax${isSecure ? "; Secure" : ""}`;
  return {
    set: (value: string) => `${name}=${value}; ${attributes}; Max-Age=${SIGN_IN_SECONDS}`,
    forget: `${name}=; ${attributes}; Max-Age=0`,
    /** @returns undefined where it stands twice: then somebody else put one there */
    read(cookies: string | undefined): string | undefined {
      const values = (cookies ?? "")
        .split(";")
        .map((pair) => pair.trim())
        .filter((pair) => pair.startsWith(`${name}=`))
        .map((pair) => pair.slice(name.length + 1));
      return values.length === 1 ? values[0] : undefined;
    },
  };
}
