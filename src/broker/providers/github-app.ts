/**
 * The provider `github_app`: an installation token of a GitHub App, narrowed to repositories and permissions.
 *
 * - GitHub makes no token shorter than an hour. It is deleted at the lease's end, and dead then. That takes the token itself:
 *   it is the handle, kept sealed until it is deleted. Ephor must be running for it; the hour is what is left if it is not.
 * - The window: when this process dies, or GitHub's answer is lost, between GitHub's making a token and its record, then
 *   nobody has that token, nobody can delete it, and it ends with its hour (at once if the installation is suspended).
 *   `destroy` without a handle resolves, for nothing can be done.
 * - GitHub adds `metadata: read` to every token. Any other surplus in its answer, or a repository that was not asked for,
 *   deletes the token and fails the mint.
 * - The human's name has no place in a token. GitHub's audit log shows its SHA-256 (in base64); `who` knows it in hex.
 *
 * The credential: `{ token, username: "x-access-token", expires_at, permissions: ["contents:read"], repositories?, git_host }`,
 * where `expires_at` is the lease's end, and `repositories` are full names, absent where the token has all.
 */
import { z } from "zod";
import { sha256Hex } from "../../system/hash.ts";
import { ProviderError } from "../provider-error.ts";
import type { CredentialProvider, LeaseHandle, Minted, MintOrder } from "../provider.ts";
import { orUndo, TOKEN_PATTERN, UPSTREAM_LIMITS } from "../upstream-request.ts";
import { appJwt, createToken, deleteToken, gitHost } from "./github-app-api.ts";
import {
  arePermissionsWithin,
  boundsOf,
  githubAppSettingsValue,
  isAmong,
  type GithubAppSettings,
  type TokenBounds,
} from "./github-app-settings.ts";

/** What `git` sends as the user of such a token. */
const GIT_USERNAME = "x-access-token";

/** Of every token, asked for or not. */
const ALWAYS_GIVEN = { metadata: "read" } as const;

/** 40 characters until 2026, 520 since; nothing else about its form is promised. */
const tokenValue = z.string().regex(TOKEN_PATTERN).max(UPSTREAM_LIMITS.tokenCharacters);

/** What is read of GitHub's answer. */
const answerValue = z.object({
  token: tokenValue,
  expires_at: z.iso.datetime({ offset: true }),
  permissions: z.record(z.string(), z.string()),
  repository_selection: z.enum(["all", "selected"]).optional(),
  repositories: z.array(z.object({ name: z.string(), full_name: z.string() })).optional(),
});

type Answer = z.infer<typeof answerValue>;

/**
 * Makes the provider. Beside those of the request, `mint` throws {@link ProviderError} `order_refused` with the code
 * `answer_wider` when GitHub gave more than asked, and `left_behind` when deleting that failed too.
 */
export function createGithubAppProvider(): CredentialProvider<GithubAppSettings> {
  return {
    kind: "github_app",
    settings: githubAppSettingsValue,
    secrets: ({ secret }) => [secret],
    secretsToDestroy: () => [],
    mint,
    destroy,
    residualSeconds: () => 0,
  };
}

async function mint(order: MintOrder<GithubAppSettings>, signal: AbortSignal): Promise<Minted> {
  const { settings, secrets, issuedAt, upstream } = order;
  const bounds = boundsOf(settings, order.policies);
  const pem = secrets.get(settings.secret);
  if (pem === undefined) throw new ProviderError("secret_malformed");
  if (signal.aborted) throw new ProviderError("unreachable", { code: "aborted" });
  const api = { egress: upstream.egress, settings };
  const jwt = pem.use((text) => appJwt(settings, text, issuedAt));
  const { json } = await createToken(api, { jwt, bounds });
  // Before anything else is judged: with the token in hand, whatever is wrong with the rest can be undone.
  const token = tokenValue.safeParse(json?.["token"]);
  if (!token.success) throw new ProviderError("answer_malformed");
  return await orUndo(
    signal,
    () => deleteToken(api, token.data),
    () => minted(order, bounds, json),
  );
}

async function destroy(
  { settings, handle, upstream }: LeaseHandle<GithubAppSettings>,
  signal: AbortSignal,
): Promise<void> {
  const token = handle?.["token"];
  if (token !== undefined) await deleteToken({ egress: upstream.egress, settings }, token, signal);
}

function minted(
  { settings, issuedAt, endsAt }: MintOrder<GithubAppSettings>,
  bounds: TokenBounds,
  json: unknown,
): Minted {
  const answer = answerValue.safeParse(json);
  if (!answer.success) throw new ProviderError("answer_malformed");
  if (!isWithinBounds(answer.data, bounds)) throw new ProviderError("order_refused", { code: "answer_wider" });
  const { token, expires_at, permissions, repositories } = answer.data;
  const upstreamExpiresAt = Math.floor(Date.parse(expires_at) / 1000);
  if (upstreamExpiresAt <= issuedAt) throw new ProviderError("answer_malformed");
  return {
    credential: {
      token,
      username: GIT_USERNAME,
      expires_at: Math.min(endsAt, upstreamExpiresAt),
      permissions: Object.entries(permissions).map(([name, level]) => `${name}:${level}`),
      ...(bounds.repositories !== undefined && { repositories: (repositories ?? []).map((one) => one.full_name) }),
      git_host: gitHost(settings),
    },
    handle: { token },
    upstreamExpiresAt,
    marks: [{ kind: "token_sha256", value: sha256Hex(token) }],
  };
}

/** GitHub names the repositories of a token exactly when it was asked for some. */
function isWithinBounds(answer: Answer, { repositories, permissions }: TokenBounds): boolean {
  if (!arePermissionsWithin(answer.permissions, { ...ALWAYS_GIVEN, ...permissions })) return false;
  if (repositories === undefined) return true;
  if (answer.repository_selection === "all" || answer.repositories === undefined) return false;
  return answer.repositories.every(({ name }) => isAmong(name, repositories));
}
