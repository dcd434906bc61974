import type { EpochSeconds } from "../../core/time.ts";
import type { Egress } from "../../system/egress.ts";
import { SEND_LIMITS } from "../../system/egress.ts";
import { ProviderError } from "../provider-error.ts";
import { readAssertionKey, signAssertion } from "../signed-assertion.ts";
import { askUpstream, problemOfStatus } from "../upstream-request.ts";
import type { UpstreamAnswer } from "../upstream-request.ts";
import type { GithubAppSettings, TokenBounds } from "./github-app-settings.ts";

/** Of the JWT with which the app proves itself. */
const APP_JWT = {
  /** GitHub asks for this, for clocks that run ahead of its own. */
  backdateSeconds: 60,
  /** GitHub takes up to 600; ours is spent at once, and its clock may be behind or ahead. */
  lifeSeconds: 300,
} as const;

/** Where GitHub is, and with what it is asked. */
export interface GithubApi {
  readonly egress: Egress;
  readonly settings: GithubAppSettings;
}

/**
 * The JWT with which the app proves itself.
 *
 * @param pem its private key
 * @throws {ProviderError} `secret_malformed`
 */
export function appJwt(settings: GithubAppSettings, pem: string, at: EpochSeconds): string {
  return signAssertion(readAssertionKey(pem, { algorithm: "RS256" }), {
    iat: at - APP_JWT.backdateSeconds,
    exp: at + APP_JWT.lifeSeconds,
    iss: String(settings.app_id),
  });
}

/**
 * Asks for an installation token. Without a signal: once it has been sent, GitHub makes the token whether we wait for it or
 * not, and only who has it can delete it.
 *
 * @param order.jwt from {@link appJwt}
 * @throws {ProviderError} those of the request; nothing of GitHub's text
 */
export async function createToken(
  { egress, settings }: GithubApi,
  order: { readonly jwt: string; readonly bounds: TokenBounds },
): Promise<UpstreamAnswer> {
  const { repositories, permissions } = order.bounds;
  const answer = await askUpstream(egress, {
    method: "POST",
    url: `${baseUrl(settings)}/app/installations/${settings.installation_id}/access_tokens`,
    headers: { ...headersFor(order.jwt), "content-type": "application/json" },
    body: JSON.stringify({ ...(repositories !== undefined && { repositories }), permissions }),
    internal: settings.internal,
    maxBytes: SEND_LIMITS.maxBytes,
  });
  if (answer.status !== 201) throw problemOf(answer);
  return answer;
}

/**
 * Deletes a token, with that token itself; there is no other way. Fine too when GitHub no longer knows it.
 *
 * @throws {ProviderError}
 */
export async function deleteToken({ egress, settings }: GithubApi, token: string, signal?: AbortSignal): Promise<void> {
  const answer = await askUpstream(egress, {
    method: "DELETE",
    url: `${baseUrl(settings)}/installation/token`,
    headers: headersFor(token),
    internal: settings.internal,
    ...(signal !== undefined && { signal }),
  });
  if (answer.status === 204 || answer.status === 401) return;
  // 403 means a limit that the token's holder has used up, or an installation that is suspended: neither is an end.
  if (answer.status === 403) throw new ProviderError("unavailable", { code: "http_403" });
  throw problemOf(answer);
}

/** The host that `git` clones from. `api.github.com` serves github.com, `api.TENANT.ghe.com` serves TENANT.ghe.com. */
export function gitHost(settings: GithubAppSettings): string {
  const { host } = new URL(settings.api_url);
  return /^api\.(?:github\.com|[a-z0-9-]+\.ghe\.com)$/.test(host) ? host.slice("api.".length) : host;
}

function headersFor(token: string): Record<string, string> {
  return {
    accept: "application/vnd.github+json",
    authorization: `Bearer ${token}`,
    "x-github-api-version": "2022-11-28",
  };
}

function baseUrl(settings: GithubAppSettings): string {
  return settings.api_url.replace(/\/+$/, "");
}

/** GitHub says "slow down" with 403 as well; then it also says how long. */
function problemOf({ status, headers }: UpstreamAnswer): ProviderError {
  const isLimited = headers["retry-after"] !== undefined || headers["x-ratelimit-remaining"] === "0";
  if (status === 403 && isLimited) return new ProviderError("unavailable", { code: "http_403" });
  return problemOfStatus(status);
}
