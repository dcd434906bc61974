import * as oauth from "oauth4webapi";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT } from "../exit-code.ts";
import type { Login } from "../login-file.ts";
import { nowSeconds } from "../moments.ts";
import type { HumanIssuer, LoginOptions } from "../verbs/login.ts";
import { openBrowser } from "./browser.ts";
import { receiveRedirect } from "./redirect.ts";

/** What is asked for: who it is, and when he signed in. */
const SCOPE = "openid profile email";
/** Milliseconds that a human may take. */
const PATIENCE_MS = 10 * 60_000;
const LOOPBACK = /^http:\/\/(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?(?:\/|$)/;
const DEFAULT_INTERVAL_SECONDS = 5;
const SLOW_DOWN_SECONDS = 5;

/** What is kept of a sign-in. */
export type SignedIn = Pick<Login, "sub" | "token" | "type" | "expires_at">;

interface At {
  readonly as: oauth.AuthorizationServer;
  readonly client: oauth.Client;
  readonly issuer: HumanIssuer;
  readonly options: LoginOptions;
  /** For oauth4webapi: plain http on loopback only. */
  readonly insecure: { readonly [oauth.allowInsecureRequests]?: boolean };
}

/**
 * Signs a human in: by authorisation code with PKCE and a redirect to loopback, or by device code.
 *
 * @throws {CliFailure} refused, or the tokens are not for this server
 * @see RFC 8252 §7.3, RFC 7636, RFC 8628, OpenID Connect Core 1.0 §3.1
 */
export async function signIn(context: CliContext, issuer: HumanIssuer, options: LoginOptions): Promise<SignedIn> {
  const isLocal = LOOPBACK.test(issuer.url);
  const insecure = isLocal ? { [oauth.allowInsecureRequests]: true } : {};
  const url = new URL(issuer.url);
  try {
    const as = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, insecure));
    const at: At = { as, client: { client_id: issuer.client_id }, issuer, options, insecure };
    const answer = options.device === true ? await byDevice(context, at) : await byBrowser(context, at);
    return kept(issuer, answer);
  } catch (error) {
    throw asFailure(error, issuer);
  }
}

function parametersOf({ issuer, options }: At): Record<string, string> {
  const [first = ""] = issuer.audience;
  const wantsAccessToken = !issuer.audience.includes(issuer.client_id) && URL.canParse(first);
  return {
    client_id: issuer.client_id,
    scope: options.scope ?? SCOPE,
    // RFC 8707: an access token for us, where the ID token is not.
    ...(wantsAccessToken && options.scope === undefined && { resource: first }),
    // Makes the IdP say when the human signed in, which is what a task's end is counted from.
    ...(issuer.subject_max_age !== undefined && { max_age: String(issuer.subject_max_age) }),
  };
}

async function byBrowser(context: CliContext, at: At): Promise<oauth.TokenEndpointResponse> {
  const { as, client, issuer, options, insecure } = at;
  if (as.authorization_endpoint === undefined) throw new CliFailure(`${issuer.name} has no authorization endpoint`);
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const nonce = oauth.generateRandomNonce();
  const redirect = await receiveRedirect(options.port === undefined ? 0 : Number(options.port), PATIENCE_MS);
  try {
    const target = new URL(as.authorization_endpoint);
    const parameters = {
      ...parametersOf(at),
      response_type: "code",
      redirect_uri: redirect.uri,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
      state,
      nonce,
    };
    for (const [name, value] of Object.entries(parameters)) target.searchParams.set(name, value);
    context.say(`sign in here: ${target.href}`);
    if (options.browser !== false) openBrowser(target.href);
    const parametersBack = oauth.validateAuthResponse(as, client, await redirect.arrived, state);
    const response = await oauth.authorizationCodeGrantRequest(
      as,
      client,
      oauth.None(),
      parametersBack,
      redirect.uri,
      verifier,
      insecure,
    );
    return await oauth.processAuthorizationCodeResponse(as, client, response, {
      expectedNonce: nonce,
      requireIdToken: true,
      ...(issuer.subject_max_age !== undefined && { maxAge: issuer.subject_max_age }),
    });
  } finally {
    await redirect.close();
  }
}

async function byDevice(context: CliContext, at: At): Promise<oauth.TokenEndpointResponse> {
  const { as, client, insecure } = at;
  const request = await oauth.deviceAuthorizationRequest(as, client, oauth.None(), parametersOf(at), insecure);
  const device = await oauth.processDeviceAuthorizationResponse(as, client, request);
  context.say(`open ${device.verification_uri} anywhere and type ${device.user_code}`);
  if (device.verification_uri_complete !== undefined) context.say(`or open ${device.verification_uri_complete}`);
  const endsAt = nowSeconds() + device.expires_in;
  let interval = device.interval ?? DEFAULT_INTERVAL_SECONDS;
  while (nowSeconds() < endsAt) {
    await new Promise((resolve) => setTimeout(resolve, interval * 1_000));
    const response = await oauth.deviceCodeGrantRequest(as, client, oauth.None(), device.device_code, insecure);
    try {
      return await oauth.processDeviceCodeResponse(as, client, response);
    } catch (error) {
      if (!(error instanceof oauth.ResponseBodyError)) throw error;
      if (error.error === "slow_down") interval += SLOW_DOWN_SECONDS;
      else if (error.error !== "authorization_pending") throw error;
    }
  }
  throw new CliFailure("nobody typed the code in time; ephor login --device", { exitCode: EXIT.unauthenticated });
}

/** The token that the server takes: the ID token where it is for this client, else an access token for the server. */
function kept(issuer: HumanIssuer, answer: oauth.TokenEndpointResponse): SignedIn {
  const id = oauth.getValidatedIdTokenClaims(answer);
  if (id === undefined) throw new CliFailure(`${issuer.name} answered no ID token`);
  if (answer.id_token !== undefined && issuer.audience.includes(issuer.client_id))
    return { sub: id.sub, token: answer.id_token, type: "idToken", expires_at: id.exp };
  const claims = claimsOf(answer.access_token);
  const [audience, ...others] = [claims?.["aud"]].flat();
  const exp = claims?.["exp"];
  if (
    typeof audience === "string" &&
    others.length === 0 &&
    issuer.audience.includes(audience) &&
    typeof exp === "number"
  )
    return { sub: id.sub, token: answer.access_token, type: "accessToken", expires_at: exp };
  throw new CliFailure(
    `the tokens of ${issuer.name} are for other audiences than ${issuer.audience.join(", ")}; ` +
      `add the client id ${issuer.client_id} to the issuer's audience in the trust file, or ask with --scope for a token of that audience`,
  );
}

/** Of a JWT, unverified: the server verifies it. Undefined for an opaque token. */
function claimsOf(token: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8")) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** What the identity provider said, by its codes; its prose and its tokens are not shown. */
function asFailure(error: unknown, { name }: HumanIssuer): unknown {
  if (error instanceof CliFailure) return error;
  if (error instanceof oauth.AuthorizationResponseError || error instanceof oauth.ResponseBodyError)
    return new CliFailure(`${name} refused: ${error.error}`, { exitCode: EXIT.unauthenticated, cause: error });
  if (error instanceof oauth.OperationProcessingError || error instanceof oauth.UnsupportedOperationError)
    return new CliFailure(`what ${name} answered is not right (${error.code ?? "unknown"}), so it was not taken`, {
      cause: error,
    });
  const isNetwork = error instanceof TypeError;
  return isNetwork ? new CliFailure(`${name} could not be reached`, { cause: error }) : error;
}
