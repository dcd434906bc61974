import { readFile } from "node:fs/promises";
import { isRecord } from "./wire.ts";

/** A workload's token, and where it was. */
export interface PlatformToken {
  readonly token: string;
  /** For messages: a variable's name or a path. */
  readonly source: string;
}

/** The token of this workload cannot be had. The message names the place and the mend, never a token. */
export class PlatformTokenError extends Error {
  override readonly name = "PlatformTokenError";
}

/** Where to look. */
export interface PlatformSearch {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The `aud` that the token must have: the audience that Ephor's entry of the issuer names. */
  readonly audience: string;
  /** A file named by the caller; beats everything else. */
  readonly file?: string | undefined;
}

/** Where a pod finds a projected token for Ephor when its manifest follows `examples/kubernetes`. */
const KUBERNETES_FILE = "/var/run/secrets/ephor/token";
/** The token every pod has. It is meant for the cluster's API, so it is sent only when its `aud` says otherwise. */
const KUBERNETES_DEFAULT_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/** Longest token that is read, in characters: what `/token` takes. */
const MAX_TOKEN_CHARACTERS = 16_384;
/** Milliseconds that GitHub may take to answer. */
const TIMEOUT_MS = 10_000;

/**
 * Finds this workload's own OIDC token where its platform puts it: a file named by the caller, `EPHOR_TOKEN_FILE`,
 * `EPHOR_TOKEN` (GitLab's `id_tokens`), GitHub Actions' endpoint, a Kubernetes projected volume, `AWS_WEB_IDENTITY_TOKEN_FILE`.
 *
 * A token that nobody named for Ephor is taken only when its `aud` is the wanted one: a token for AWS or for a cluster's API,
 * sent here, would let its receiver act there.
 *
 * @throws {PlatformTokenError} when there is none, or the one that was named cannot be read
 */
export async function findPlatformToken(search: PlatformSearch): Promise<PlatformToken> {
  const { env, audience } = search;
  if (search.file !== undefined) return await fromFile(search.file, search.file);
  if (env["EPHOR_TOKEN_FILE"]) return await fromFile(env["EPHOR_TOKEN_FILE"], "EPHOR_TOKEN_FILE");
  if (env["EPHOR_TOKEN"]) return { token: checked(env["EPHOR_TOKEN"], "EPHOR_TOKEN"), source: "EPHOR_TOKEN" };
  if (env["ACTIONS_ID_TOKEN_REQUEST_URL"]) return await fromGitHub(env, audience);
  const passedBy: string[] = [];
  for (const [path, source] of [
    [KUBERNETES_FILE, KUBERNETES_FILE],
    [env["AWS_WEB_IDENTITY_TOKEN_FILE"], "AWS_WEB_IDENTITY_TOKEN_FILE"],
    [KUBERNETES_DEFAULT_FILE, KUBERNETES_DEFAULT_FILE],
  ] as const) {
    const token = path ? await readIfThere(path) : undefined;
    if (token === undefined) continue;
    if (audiencesOf(token).includes(audience)) return { token: checked(token, source), source };
    passedBy.push(source);
  }
  const hint =
    passedBy.length === 0
      ? "set EPHOR_TOKEN_FILE, or use --token-file"
      : `the token of ${passedBy.join(" and ")} has another aud than ${audience}; name its file with --token-file if it is meant for Ephor`;
  throw new PlatformTokenError(`no workload token was found here; ${hint}`);
}

/** Reads a token out of a file; one line break at its end is no part of it. */
export async function readTokenFile(path: string): Promise<string> {
  return (await fromFile(path, path)).token;
}

async function fromFile(path: string, source: string): Promise<PlatformToken> {
  const token = await readIfThere(path);
  if (token === undefined) throw new PlatformTokenError(`${source} names a file that cannot be read`);
  return { token: checked(token, source), source };
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch {
    return undefined;
  }
}

function checked(token: string, source: string): string {
  if (token.length > MAX_TOKEN_CHARACTERS || !/^[\x21-\x7e]+$/.test(token)) {
    throw new PlatformTokenError(`${source} holds no token`);
  }
  return token;
}

/** The audiences that a JWT says it is for; unverified, only to keep it from being sent elsewhere. */
function audiencesOf(token: string): readonly string[] {
  try {
    const payload: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    const aud = isRecord(payload) ? payload["aud"] : undefined;
    return (Array.isArray(aud) ? aud : [aud]).filter((one) => typeof one === "string");
  } catch {
    return [];
  }
}

/** @see https://docs.github.com/en/actions/reference/security/oidc (the token's endpoint) */
async function fromGitHub(env: PlatformSearch["env"], audience: string): Promise<PlatformToken> {
  const source = "ACTIONS_ID_TOKEN_REQUEST_URL";
  const bearer = env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"];
  const text = env[source] ?? "";
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLoopback = url !== undefined && /^(?:127\.0\.0\.1|\[::1\]|localhost)$/.test(url.hostname);
  if (!bearer || url === undefined || (url.protocol !== "https:" && !isLoopback)) {
    throw new PlatformTokenError("this job may not ask for a token; give it the permission id-token: write");
  }
  url.searchParams.set("audience", audience);
  let answer: unknown;
  try {
    const response = await fetch(url, {
      headers: { authorization: `Bearer ${bearer}`, accept: "application/json" },
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    answer = response.ok ? await response.json() : undefined;
  } catch (error) {
    throw new PlatformTokenError("GitHub did not answer with a token", { cause: error });
  }
  const value = isRecord(answer) ? answer["value"] : undefined;
  if (typeof value !== "string") throw new PlatformTokenError("GitHub did not answer with a token");
  return { token: checked(value, source), source };
}
