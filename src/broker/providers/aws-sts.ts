import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { LookupFunction } from "node:net";
import type * as StsSdk from "@aws-sdk/client-sts";
import type {
  AssumeRoleCommandInput,
  AssumeRoleResponse,
  AssumeRoleWithWebIdentityCommandInput,
  STSClient,
  STSClientConfig,
} from "@aws-sdk/client-sts";
import { toProviderError } from "./aws-error.ts";

/** Bounds of one call to an STS. */
const STS_LIMITS = {
  /** The first and two more, as AWS's SDKs do; an agent is waiting. */
  attempts: 3,
  /** From the first byte out to the last byte in, over all attempts: a lease lives no longer than 59 s. */
  totalMs: 12_000,
  connectMs: 3_000,
  /** Of one attempt until the head of the answer. */
  attemptMs: 5_000,
  /** An answer has 2–4 KiB; session tokens have no stated limit. */
  answerBytes: 64 * 1024,
  /** Sockets to one host, for vends at the same time. */
  sockets: 50,
} as const;

/** Which STS is asked. */
export interface StsTarget {
  readonly region: string;
  /** In place of the region's public endpoint. */
  readonly endpoint?: string | undefined;
}

/** The two calls that take up a role. Each throws `ProviderError` and nothing of AWS's text. */
export interface Sts {
  assumeRole(call: StsCall<AssumeRoleCommandInput> & { keys: AwsKeys }): Promise<AssumeRoleResponse>;
  /** The token is the proof; nothing is signed with a key of AWS. */
  assumeRoleWithWebIdentity(call: StsCall<AssumeRoleWithWebIdentityCommandInput>): Promise<AssumeRoleResponse>;
}

interface StsCall<I> {
  readonly target: StsTarget;
  readonly input: I;
  readonly signal: AbortSignal;
}

/** Keys that sign a request. */
export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/**
 * AWS's SDK, loaded at the first call, told everything it would otherwise look for: it reads no `~/.aws`, no `AWS_*`
 * variable, asks no metadata service and follows no redirect. A client lives for one call, so that no keys stay in it.
 *
 * @param options for tests only: milliseconds of one call, and a resolver in place of the system's
 */
export function createSts(options: { readonly totalMs?: number; readonly lookup?: LookupFunction } = {}): Sts {
  let sdk: Promise<typeof StsSdk> | undefined;
  const load = (): Promise<typeof StsSdk> => (sdk ??= import("@aws-sdk/client-sts"));
  // Connections outlive a client; idle ones keep no process alive.
  const sockets = { keepAlive: true, maxSockets: STS_LIMITS.sockets, lookup: options.lookup };
  const agents = { httpAgent: new HttpAgent(sockets), httpsAgent: new HttpsAgent(sockets) };
  const totalMs = options.totalMs ?? STS_LIMITS.totalMs;
  async function call<T>(
    { target, signal }: Omit<StsCall<unknown>, "input">,
    keys: AwsKeys | undefined,
    send: (client: STSClient, sts: typeof StsSdk, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const sts = await load();
    const client = new sts.STSClient(clientConfig(target, keys, agents));
    try {
      return await send(client, sts, AbortSignal.any([signal, AbortSignal.timeout(totalMs)]));
    } catch (error) {
      throw toProviderError(error);
    }
  }
  return {
    assumeRole: ({ keys, input, ...at }) =>
      call(at, keys, (client, { AssumeRoleCommand }, abortSignal) =>
        client.send(new AssumeRoleCommand(input), { abortSignal }),
      ),
    assumeRoleWithWebIdentity: ({ input, ...at }) =>
      call(at, undefined, (client, { AssumeRoleWithWebIdentityCommand }, abortSignal) =>
        client.send(new AssumeRoleWithWebIdentityCommand(input), { abortSignal }),
      ),
  };
}

/** INVARIANT: every setting for which the SDK would look into files or the environment has a value here. */
function clientConfig(
  target: StsTarget,
  keys: AwsKeys | undefined,
  agents: { httpAgent: HttpAgent; httpsAgent: HttpsAgent },
): STSClientConfig {
  const nobody = (): Promise<never> => Promise.reject(new Error("no credentials were given"));
  const config = {
    region: target.region,
    ...(target.endpoint !== undefined && { endpoint: target.endpoint }),
    ignoreConfiguredEndpointUrls: true,
    credentials: keys ?? nobody,
    credentialDefaultProvider: () => nobody,
    maxAttempts: STS_LIMITS.attempts,
    retryMode: "standard",
    defaultsMode: "standard",
    useDualstackEndpoint: false,
    useFipsEndpoint: false,
    authSchemePreference: [],
    sigv4aSigningRegionSet: [],
    userAgentAppId: "ephor",
    logger: SILENT,
    streamCollector: boundedBody,
    requestHandler: {
      ...agents,
      connectionTimeout: STS_LIMITS.connectMs,
      requestTimeout: STS_LIMITS.attemptMs,
      throwOnRequestTimeout: true,
      logger: SILENT,
    },
  } satisfies STSClientConfig & Record<string, unknown>;
  return config;
}

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

async function boundedBody(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  // Leaving the loop by an error closes the connection.
  for await (const chunk of stream) {
    size += chunk.byteLength;
    if (size > STS_LIMITS.answerBytes) throw new Error("answer too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
