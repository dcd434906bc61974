import type { Vended } from "../../sdk/client/vend.ts";

/** Where platforms put what proves a workload: with it the command could open tasks of its own, and outlive ours. */
const IDENTITY = [
  /^EPHOR_/,
  /^ACTIONS_ID_TOKEN_REQUEST_/,
  /^ACTIONS_RUNTIME_TOKEN$/,
  /^AWS_WEB_IDENTITY_TOKEN_FILE$/,
  /^AWS_ROLE_(?:ARN|SESSION_NAME)$/,
  /^AZURE_(?:FEDERATED_TOKEN_FILE|CLIENT_ID|TENANT_ID|AUTHORITY_HOST)$/,
  /^GOOGLE_APPLICATION_CREDENTIALS$/,
  /^CLOUDSDK_AUTH_/,
  /^SPIFFE_ENDPOINT_SOCKET$/,
  /^CI_JOB_(?:TOKEN|JWT)/,
  /^(?:IDENTITY|MSI)_(?:ENDPOINT|HEADER|SECRET)$/,
];

/** Standing credentials, and where tools find them, by the kind that takes their place. */
const STANDING: Readonly<Record<string, readonly RegExp[]>> = {
  aws: [
    /^AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN|CREDENTIAL_EXPIRATION)$/,
    /^AWS_(?:PROFILE|DEFAULT_PROFILE|CONFIG_FILE|SHARED_CREDENTIALS_FILE|CREDENTIAL_FILE)$/,
    /^AWS_CONTAINER_/,
    /^AWS_BEARER_TOKEN_/,
  ],
  github_app: [/^(?:GH|GITHUB)_(?:TOKEN|ENTERPRISE_TOKEN|PAT)$/, /^GIT_ASKPASS$/, /^SSH_ASKPASS$/],
  postgres: [
    /^PG(?:HOST|HOSTADDR|PORT|DATABASE|USER|PASSWORD|PASSFILE|SERVICE|SERVICEFILE|SSLMODE|SSLKEY|SSLCERT)$/,
    /^DATABASE_URL$/,
  ],
};

/**
 * The environment that a command inherits: without what proves the workload, without standing credentials of the kinds that
 * are vended to it, and without any variable that holds one of our own tokens under another name (GitLab's `id_tokens`).
 *
 * @param secrets texts that no variable may hold
 */
export function inherited(
  env: Readonly<Record<string, string | undefined>>,
  kinds: ReadonlySet<string>,
  secrets: readonly string[],
): Record<string, string> {
  const banned = [...IDENTITY, ...[...kinds].flatMap((kind) => STANDING[kind] ?? [])];
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || banned.some((pattern) => pattern.test(name))) continue;
    if (secrets.some((secret) => secret !== "" && value.trim() === secret)) continue;
    kept[name] = value;
  }
  return kept;
}

/** One credential of the command. */
export interface Given {
  readonly resource: string;
  readonly vended: Vended;
}

/**
 * Adds entries of git's configuration after those that are there.
 *
 * @see git-config(1), GIT_CONFIG_COUNT
 */
export function withGitConfig(env: Record<string, string>, entries: readonly (readonly [string, string])[]): void {
  const before = Number(env["GIT_CONFIG_COUNT"] ?? 0);
  const first = Number.isSafeInteger(before) && before > 0 ? before : 0;
  entries.forEach(([key, value], at) => {
    env[`GIT_CONFIG_KEY_${first + at}`] = key;
    env[`GIT_CONFIG_VALUE_${first + at}`] = value;
  });
  if (entries.length > 0) env["GIT_CONFIG_COUNT"] = String(first + entries.length);
}
