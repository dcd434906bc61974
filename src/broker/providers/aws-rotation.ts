/**
 * The rotation of an IAM user's access key, signed with that key: the user may have a second one, which is proved and takes the first
 * one's place. A key whose answer was lost is known by when it was made, by AWS's own clock; the list had one key right before.
 */
import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { durationSeconds } from "../../core/trust/values.ts";
import type { RotationBeside, RotationOrder } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import { secretText, type SecretText } from "../secret-text.ts";
import { accessKeysOf, secondKeyExists, type AccessKeys } from "./aws-access-keys.ts";
import { readAwsKeys, readSecretJson } from "./aws-keys.ts";
import { askAws, type AwsQueryTarget } from "./aws-query.ts";
import { awsKeysValue, type AwsSettings } from "./aws-settings.ts";
import type { AwsKeys } from "./aws-sts.ts";

/** How a key is looked for that was made and not seen, in seconds after the list; the call itself ends after 8. */
const LOST_SECONDS = 60;

/** Before each further try of a new key, in milliseconds: AWS takes some seconds to know one everywhere. */
const WAITS_MS = [500, 1_000, 2_000, 3_000, 4_000] as const;

/** Where IAM is, and what signs for it (AWS General Reference, "IAM endpoints"). */
const IAM: Readonly<Record<string, { readonly region: string; readonly url: string }>> = {
  aws: { region: "us-east-1", url: "https://iam.amazonaws.com/" },
  "aws-cn": { region: "cn-north-1", url: "https://iam.cn-north-1.amazonaws.com.cn/" },
  "aws-us-gov": { region: "us-gov-west-1", url: "https://iam.us-gov.amazonaws.com/" },
};

/** What waits in the vault: a key, or a mark of one: to be ended, about to be made, made perhaps and to be ended. */
const leftValue = z.union([
  awsKeysValue,
  z.strictObject({ access_key_id: awsKeysValue.shape.access_key_id }),
  z.strictObject({ made_from: z.int().positive() }),
  z.strictObject({ lost_from: z.int().positive() }),
]);

type Order = RotationOrder<AwsSettings>;

/**
 * Codes of its {@link ProviderError}s are AWS's (in CamelCase) or ours: `second_key_exists`, `session_token_in_secret`,
 * `partition_unknown`, `new_key_refused`, `lost_key_not_seen`.
 *
 * @param wait between two tries of a new key
 */
export function createAwsRotation(
  wait: (ms: number, signal: AbortSignal) => Promise<unknown> = (ms, signal) => pause(ms, undefined, { signal }),
): RotationBeside<AwsSettings> {
  return {
    by: "beside",
    covers: (settings, secret) => settings.secret === secret,
    // A user belongs to the partition, whatever the role, the region or the endpoint of STS.
    place: (settings) => `${partitionOf(settings)} ${settings.iam_endpoint ?? ""}`,
    secrets: (_, secret) => [secret],
    everySeconds: ({ rotate_every: every }) => (every === undefined ? undefined : durationSeconds(every)),
    async begin(order, signal) {
      const { keys, at } = await iam(order, signal).list();
      if (keys.some(({ id }) => id !== presentOf(order).accessKeyId)) throw secondKeyExists();
      return secretText(JSON.stringify({ made_from: at }));
    },
    async make(order, signal) {
      const { accessKeyId, secretAccessKey } = await iam(order, signal).create();
      if (accessKeyId === presentOf(order).accessKeyId) throw new ProviderError("answer_malformed");
      return secretText(JSON.stringify({ access_key_id: accessKeyId, secret_access_key: secretAccessKey }));
    },
    prove: (order, signal) => prove(order, signal, wait),
    markOf(value) {
      const left = readLeft(value);
      if ("made_from" in left) return secretText(JSON.stringify({ lost_from: left.made_from }));
      if (!("secret_access_key" in left)) return value;
      return secretText(JSON.stringify({ access_key_id: left.access_key_id }));
    },
    end,
  };
}

async function prove(
  { settings, upstream, next }: Order & { readonly next: SecretText },
  signal: AbortSignal,
  wait: (ms: number, signal: AbortSignal) => Promise<unknown>,
): Promise<void> {
  const keys = next.use(readAwsKeys);
  const call = { egress: upstream.egress, target: stsOf(settings), keys, action: "GetCallerIdentity", signal };
  for (const ms of [...WAITS_MS, undefined]) {
    try {
      await askAws(call);
      return;
    } catch (error) {
      const mayYet = error instanceof ProviderError && (error.isTransient || error.problem === "credentials_refused");
      if (!mayYet) throw error;
      const isLast = ms === undefined || signal.aborted;
      if (isLast && error.isTransient) throw error;
      // Otherwise it would read as if the present one were refused.
      if (isLast) throw new ProviderError("order_refused", { code: "new_key_refused" });
      // Cut short, it is tried a last time.
      await wait(ms, signal).catch(() => {});
    }
  }
}

async function end(order: Order & { readonly left: SecretText }, signal: AbortSignal): Promise<void> {
  const left = readLeft(order.left);
  const keys = iam(order, signal);
  const ids =
    "access_key_id" in left
      ? [left.access_key_id]
      : await madeFrom(keys, "made_from" in left ? left.made_from : left.lost_from);
  const present = presentOf(order).accessKeyId;
  for (const id of ids) if (id !== present) await keys.end(id);
}

function readLeft(text: SecretText): z.infer<typeof leftValue> {
  const left = leftValue.safeParse(text.use(readSecretJson));
  if (!left.success) throw new ProviderError("secret_malformed");
  return left.data;
}

async function madeFrom(keys: AccessKeys, from: number): Promise<string[]> {
  const { keys: listed, at } = await keys.list();
  const made = listed.filter(({ createdAt }) => createdAt >= from && createdAt <= from + LOST_SECONDS);
  // A list of IAM may lag: it says that there is none only when one would have been there for a while.
  if (made.length === 0 && at <= from + LOST_SECONDS)
    throw new ProviderError("unavailable", { code: "lost_key_not_seen" });
  return made.map(({ id }) => id);
}

function iam(order: Order, signal: AbortSignal): AccessKeys {
  const { settings, upstream } = order;
  const known = IAM[partitionOf(settings)];
  if (known === undefined) throw new ProviderError("order_refused", { code: "partition_unknown" });
  const { iam_endpoint: endpoint } = settings;
  const target = {
    service: "iam",
    region: known.region,
    url: endpoint ?? known.url,
    internal: endpoint !== undefined,
  } as const;
  return accessKeysOf({ egress: upstream.egress, target, keys: presentOf(order), signal });
}

function stsOf(settings: AwsSettings): AwsQueryTarget {
  const { region, endpoint } = settings;
  const suffix = partitionOf(settings) === "aws-cn" ? "amazonaws.com.cn" : "amazonaws.com";
  return {
    service: "sts",
    region,
    url: endpoint ?? `https://sts.${region}.${suffix}/`,
    internal: endpoint !== undefined,
  };
}

function presentOf({ secrets, secret }: Order): AwsKeys {
  const keys = secrets.get(secret)?.use(readAwsKeys);
  if (keys === undefined) throw new ProviderError("secret_malformed", { code: "keys_missing" });
  // A session's keys end by themselves; they belong to no user.
  if (keys.sessionToken !== undefined) throw new ProviderError("secret_malformed", { code: "session_token_in_secret" });
  return keys;
}

function partitionOf({ role_arn: arn }: AwsSettings): string {
  return arn.split(":")[1] ?? "";
}
