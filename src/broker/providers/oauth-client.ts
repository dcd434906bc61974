import type { EpochSeconds } from "../../core/time.ts";
import { randomToken } from "../../system/random.ts";
import { ProviderError } from "../provider-error.ts";
import type { Upstream } from "../provider.ts";
import type { SecretText } from "../secret-text.ts";
import { readAssertionKey, signAssertion } from "../signed-assertion.ts";
import { askUpstream } from "../upstream-request.ts";
import type { UpstreamAnswer } from "../upstream-request.ts";
import type { OAuthSettings } from "./oauth-settings.ts";

/** Of a `private_key_jwt`. */
const ASSERTION = {
  /** It is spent at once; a minute is for clocks that differ. */
  lifeSeconds: 60,
  /** 128 bits, so that the upstream can refuse one that it has seen. */
  jtiBytes: 16,
} as const;

const JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** Name and value of one parameter; a name may occur several times. */
export type Parameter = readonly [name: string, value: string];

/** Us, as a client of an authorization server. */
export interface OAuthClient {
  readonly settings: OAuthSettings;
  readonly secrets: ReadonlyMap<string, SecretText>;
  readonly upstream: Upstream;
  readonly now: () => EpochSeconds;
}

/**
 * Sends a form to the token or revocation endpoint, with the client's authentication.
 *
 * @throws {ProviderError} `secret_malformed`, `credentials_refused` (`web_identity_unavailable`), and those of the request
 * @see RFC 6749 §2.3, §3.2; RFC 7009 §2.1
 */
export async function sendForm(
  client: OAuthClient,
  url: string,
  form: { readonly parameters: readonly Parameter[]; readonly signal?: AbortSignal },
): Promise<UpstreamAnswer> {
  const proof = await prove(client);
  const body = new URLSearchParams();
  for (const [name, value] of [...form.parameters, ...proof.parameters]) body.append(name, value);
  return await askUpstream(client.upstream.egress, {
    method: "POST",
    url,
    headers: { ...proof.headers, "content-type": "application/x-www-form-urlencoded" },
    body: body.toString(),
    internal: client.settings.internal,
    ...(form.signal !== undefined && { signal: form.signal }),
  });
}

/**
 * A token of ours that tells the upstream which resource of ours is asking.
 *
 * @throws {ProviderError} `credentials_refused` (`web_identity_unavailable`)
 */
export async function webIdentity({ settings, upstream }: OAuthClient): Promise<string> {
  if (upstream.webIdentity === undefined || settings.web_identity === undefined)
    throw new ProviderError("credentials_refused", { code: "web_identity_unavailable" });
  return await upstream.webIdentity(settings.web_identity.audience);
}

interface Proof {
  readonly headers: Readonly<Record<string, string>>;
  readonly parameters: readonly Parameter[];
}

/** One method, never two (RFC 6749 §2.3). */
async function prove(client: OAuthClient): Promise<Proof> {
  const { client_id: clientId = "", auth_method: method } = client.settings;
  const parameters: Parameter[] = clientId === "" ? [] : [["client_id", clientId]];
  switch (method) {
    case "client_secret_basic": {
      const pair = clientSecret(client, (secret) => `${formEncode(clientId)}:${formEncode(secret)}`);
      return { headers: { authorization: `Basic ${Buffer.from(pair).toString("base64")}` }, parameters: [] };
    }
    case "client_secret_post":
      return { headers: {}, parameters: [...parameters, ["client_secret", clientSecret(client, (secret) => secret)]] };
    case "private_key_jwt":
      return { headers: {}, parameters: [...parameters, ...assertion(privateKeyJwt(client, clientId))] };
    case "web_identity":
      return { headers: {}, parameters: [...parameters, ...assertion(await webIdentity(client))] };
    case "none":
      return { headers: {}, parameters };
  }
}

function assertion(jwt: string): Parameter[] {
  return [
    ["client_assertion_type", JWT_BEARER],
    ["client_assertion", jwt],
  ];
}

/** RFC 7523 §3, OpenID Connect Core §9. */
function privateKeyJwt(client: OAuthClient, clientId: string): string {
  const { settings } = client;
  const choice = { algorithm: settings.assertion_algorithm, keyId: settings.key_id };
  const at = client.now();
  return signAssertion(
    secretOf(client).use((text) => readAssertionKey(text, choice)),
    {
      iss: clientId,
      sub: clientId,
      aud: settings.assertion_audience ?? settings.token_url,
      jti: randomToken(ASSERTION.jtiBytes),
      iat: at,
      exp: at + ASSERTION.lifeSeconds,
    },
  );
}

/** RFC 6749 appendix A.2: visible ASCII and spaces; so a line end that came with the secret is noticed here. */
function clientSecret(client: OAuthClient, fn: (secret: string) => string): string {
  return secretOf(client).use((text) => {
    if (!/^[\x20-\x7e]+$/.test(text)) throw new ProviderError("secret_malformed");
    return fn(text);
  });
}

function secretOf({ settings, secrets }: OAuthClient): SecretText {
  const secret = settings.secret === undefined ? undefined : secrets.get(settings.secret);
  if (secret === undefined) throw new ProviderError("secret_malformed");
  return secret;
}

/** One component of a form (RFC 6749 §2.3.1 and appendix B): what stands in a Basic header may have a colon or `%`. */
function formEncode(text: string): string {
  return new URLSearchParams([["", text]]).toString().slice(1);
}
