/**
 * The provider `oauth`: an access token of another authorization server.
 *
 * - Grants: `client_credentials`; `refresh_token` of the human (`refresh_secret: crm-refresh-{user}`, see `secretOfUser`);
 *   `token_exchange` (RFC 8693) and `jwt_bearer` (RFC 7523 §2.1), both with a web-identity token of ours, `sub` =
 *   `resource|<name>`: the upstream sees the resource, not the human.
 * - At the lease's end the token is revoked (RFC 7009) where there is a `revocation_url`, and `residualSeconds` is 0. Without
 *   one nothing ends it: `destroy` has nothing to do, and what is left is `max_expires_in`, or unlimited without that. A
 *   server may end the refresh token with an access token (RFC 7009 §2.1): at such a one leave `revocation_url` out, or all
 *   that the human's consent gave is gone with the first lease.
 * - The window: when this process dies, or the answer is lost, between the upstream's making a token and its record, nobody
 *   has that token, and it ends by itself. A refresh token that was replaced in that answer is lost with it, where the
 *   upstream knows no grace for the old one: the human must consent again.
 * - A refresh token that comes with another grant is given to nobody, and revoked with the access token.
 *
 * The credential: `{ access_token, token_type: "Bearer", expires_at, scope? }`; `expires_at` is no later than the lease's end.
 */
import type { EpochSeconds } from "../../core/time.ts";
import { durationSeconds, asList } from "../../core/trust/values.ts";
import { sha256Hex } from "../../system/hash.ts";
import { ProviderError } from "../provider-error.ts";
import type {
  CredentialProvider,
  LeaseFacts,
  LeaseHandle,
  Minted,
  MintOrder,
  RotatedSecret,
  RotationOrder,
} from "../provider.ts";
import { secretText, type SecretText } from "../secret-text.ts";
import { orUndo, TOKEN_PATTERN } from "../upstream-request.ts";
import { checkAnswer, problemOfAnswer, tokensOf } from "./oauth-answer.ts";
import type { AnsweredTokens, TokenAnswer } from "./oauth-answer.ts";
import { sendForm, webIdentity } from "./oauth-client.ts";
import type { OAuthClient, Parameter } from "./oauth-client.ts";
import { isPerUser, isSecretOfUser, oauthSettingsValue, scopeOf, secretOfUser } from "./oauth-settings.ts";
import type { OAuthSettings } from "./oauth-settings.ts";

const TOKEN_TYPE = "urn:ietf:params:oauth:token-type:";
const GRANT_TYPE = "urn:ietf:params:oauth:grant-type:";

/** What the provider is handed by the composition root. */
export interface OAuthDeps {
  /** The database's clock, for assertions and for when an answer arrived. */
  readonly now: () => EpochSeconds;
}

/** Makes the provider. Codes of its {@link ProviderError}s are those of RFC 6749 and its kin, or ours; see `checkAnswer`. */
export function createOAuthProvider(deps: OAuthDeps): CredentialProvider<OAuthSettings> {
  return {
    kind: "oauth",
    settings: oauthSettingsValue,
    secrets: (settings, lease) => [...clientSecrets(settings), ...refreshSecrets(settings, lease)],
    secretsToDestroy: (settings) => (settings.revocation_url === undefined ? [] : clientSecrets(settings)),
    rotates: refreshSecrets,
    rotation: {
      by: "upstream",
      covers: coversRefreshSecret,
      place: ({ token_url: url, client_id: client = "" }) => `${url} ${client}`,
      secrets: (settings, secret) => [...clientSecrets(settings), secret],
      exchange: (order, signal) => exchange(order, signal, deps),
    },
    mint: (order, signal) => mint(order, signal, deps),
    destroy: (lease, signal) => destroy(lease, signal, deps),
    residualSeconds: (settings) =>
      settings.revocation_url === undefined ? (maxExpiresIn(settings) ?? Number.POSITIVE_INFINITY) : 0,
  };
}

/** An order without a lease is for a refresh token whose name is known. */
type TokenOrder = Omit<MintOrder<OAuthSettings>, "lease"> & { readonly lease?: LeaseFacts };

async function mint(order: TokenOrder, signal: AbortSignal, { now }: OAuthDeps): Promise<Minted> {
  const { settings, policies, secrets, upstream } = order;
  const client: OAuthClient = { settings, secrets, upstream, now };
  const scope = scopeOf(settings, policies);
  const parameters = [...(await grantParameters(client, order)), ...targetParameters(settings, scope)];
  if (signal.aborted) throw new ProviderError("unreachable", { code: "aborted" });
  // Not cut by the signal: the upstream makes the token, and ends a refresh token, whether we wait for it or not.
  const answer = await sendForm(client, settings.token_url, { parameters });
  const tokens = tokensOf(answer);
  const rotated = rotatedBy(order, tokens);
  const handle = {
    ...(tokens.access !== undefined && { access_token: tokens.access }),
    ...(settings.grant !== "refresh_token" && tokens.refresh !== undefined && { refresh_token: tokens.refresh }),
  };
  const asked = { scope, grant: settings.grant, maxExpiresIn: maxExpiresIn(settings) };
  try {
    return await orUndo(
      signal,
      () => revokeAll(client, handle),
      () => ({
        ...minted(order, checkAnswer(answer, asked), now()),
        handle,
        ...(rotated !== undefined && { rotated }),
      }),
    );
  } catch (error) {
    if (rotated === undefined || !(error instanceof ProviderError)) throw error;
    throw new ProviderError(error.problem, { code: error.code, cause: error, rotated });
  }
}

/** @param receivedAt the upstream made it between `order.issuedAt` and then */
function minted(
  { issuedAt, endsAt }: TokenOrder,
  { accessToken, expiresIn, scope }: TokenAnswer,
  receivedAt: EpochSeconds,
): Omit<Minted, "handle"> {
  return {
    credential: {
      access_token: accessToken,
      token_type: "Bearer",
      expires_at: expiresIn === undefined ? endsAt : Math.min(endsAt, issuedAt + expiresIn),
      ...(scope !== undefined && { scope }),
    },
    ...(expiresIn !== undefined && { upstreamExpiresAt: receivedAt + expiresIn }),
    marks: [{ kind: "token_sha256", value: sha256Hex(accessToken) }],
  };
}

/** The refresh grant, for its refresh token only: the access token is nobody's, and revoked where that can be. */
async function exchange(
  { settings, secret, secrets, upstream }: RotationOrder<OAuthSettings>,
  signal: AbortSignal,
  deps: OAuthDeps,
): Promise<SecretText> {
  const at = deps.now();
  const named = { ...settings, refresh_secret: secret };
  const order = { settings: named, secrets, policies: [], issuedAt: at, endsAt: at, upstream };
  try {
    const { rotated, handle } = await mint(order, signal, deps);
    // What cannot be revoked ends by itself; the new refresh token must not be lost over it.
    await revokeAll({ settings, secrets, upstream, now: deps.now }, handle).catch(() => {});
    if (rotated === undefined) throw new ProviderError("order_refused", { code: "not_replaced" });
    return rotated.value;
  } catch (error) {
    if (error instanceof ProviderError && error.rotated !== undefined) return error.rotated.value;
    throw error;
  }
}

async function destroy(
  { settings, secrets, handle = {}, upstream }: LeaseHandle<OAuthSettings>,
  signal: AbortSignal,
  { now }: OAuthDeps,
): Promise<void> {
  await revokeAll({ settings, secrets, upstream, now }, handle, signal);
}

/** The refresh token first: it could make more of the other. A token that the upstream does not know is fine (RFC 7009 §2.2). */
async function revokeAll(
  client: OAuthClient,
  handle: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<void> {
  const url = client.settings.revocation_url;
  if (url === undefined) return;
  for (const hint of ["refresh_token", "access_token"]) {
    const token = handle[hint];
    if (token === undefined) continue;
    const parameters: Parameter[] = [
      ["token", token],
      ["token_type_hint", hint],
    ];
    const answer = await sendForm(client, url, { parameters, ...(signal !== undefined && { signal }) });
    if (answer.status !== 200 && answer.status !== 204) throw problemOfAnswer(answer);
  }
}

async function grantParameters(client: OAuthClient, order: TokenOrder): Promise<Parameter[]> {
  const { grant } = client.settings;
  switch (grant) {
    case "client_credentials":
      return [["grant_type", grant]];
    case "refresh_token":
      return [
        ["grant_type", grant],
        ["refresh_token", refreshToken(order)],
      ];
    case "token_exchange":
      return [
        ["grant_type", `${GRANT_TYPE}token-exchange`],
        ["subject_token", await webIdentity(client)],
        ["subject_token_type", `${TOKEN_TYPE}jwt`],
        ["requested_token_type", `${TOKEN_TYPE}access_token`],
      ];
    case "jwt_bearer":
      return [
        ["grant_type", `${GRANT_TYPE}jwt-bearer`],
        ["assertion", await webIdentity(client)],
      ];
  }
}

function targetParameters({ resource = [], audience = [] }: OAuthSettings, scope: string | undefined): Parameter[] {
  return [
    ...(scope === undefined ? [] : [["scope", scope] as const]),
    ...asList(resource).map((value) => ["resource", value] as const),
    ...asList(audience).map((value) => ["audience", value] as const),
  ];
}

function refreshToken(order: TokenOrder): string {
  const [name = ""] = refreshSecrets(order.settings, order.lease);
  const text = order.secrets.get(name)?.use((token) => token);
  if (text === undefined) throw new ProviderError("secret_malformed", { code: "refresh_token_missing" });
  if (!TOKEN_PATTERN.test(text)) throw new ProviderError("secret_malformed");
  return text;
}

function rotatedBy(order: TokenOrder, { refresh }: AnsweredTokens): RotatedSecret | undefined {
  if (order.settings.grant !== "refresh_token" || refresh === undefined || refresh === refreshToken(order))
    return undefined;
  const [secret = ""] = refreshSecrets(order.settings, order.lease);
  return { secret, value: secretText(refresh) };
}

function clientSecrets({ secret }: OAuthSettings): string[] {
  return secret === undefined ? [] : [secret];
}

/** None where it is a human's and the human is not known. */
function refreshSecrets({ refresh_secret: pattern }: OAuthSettings, lease?: LeaseFacts): string[] {
  if (pattern === undefined || (lease === undefined && isPerUser(pattern))) return [];
  return [secretOfUser(pattern, lease?.sub ?? "")];
}

function coversRefreshSecret({ refresh_secret: pattern }: OAuthSettings, secret: string): boolean {
  return pattern !== undefined && isSecretOfUser(pattern, secret);
}

function maxExpiresIn({ max_expires_in: text }: OAuthSettings): number | undefined {
  return text === undefined ? undefined : durationSeconds(text);
}
