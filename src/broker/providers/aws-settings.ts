import { z } from "zod";
import { AWS_REGION } from "../../core/trust/aws-endpoint.ts";
import { TRUST_LIMITS } from "../../core/trust/limits.ts";
import { isLoopbackUrl, NAME_PATTERN, nameValue, textValue, urlValue } from "../../core/trust/values.ts";
import { rotateEveryValue } from "../rotate-every.ts";
import { sessionPolicyValue } from "./aws-policy.ts";
import { AWS_TAG_LIMITS, TAG_CHARACTERS, TAG_PREFIX } from "./aws-tags.ts";

/** Seconds that a session of AWS lives at least and at most (STS API reference, `DurationSeconds`). */
const DURATION = { min: 900, max: 43_200 } as const;

/** Named policies of one resource: each is a job somebody does. */
const MAX_POLICIES = 100;

const roleArn = z.string().regex(/^arn:aws[a-z-]*:iam::\d{1,12}:role\/[\w+=,.@/-]{1,576}$/, {
  error: "must be the ARN of a role, like arn:aws:iam::111122223333:role/agents",
});

const region = z.string().regex(AWS_REGION, {
  error: "must be an AWS region like eu-west-1",
});

const endpoint = urlValue({ schemes: ["https", "http"], query: false }).refine(
  (text) => !text.startsWith("http:") || isLoopbackUrl(text),
  { error: "must be https unless it is a loopback address" },
);

const tags = z.record(z.string(), z.string()).superRefine((own, ctx) => {
  const keys = Object.keys(own);
  const fail = (message: string, path: string[] = []): void => ctx.addIssue({ code: "custom", message, path });
  if (keys.length > AWS_TAG_LIMITS.tags) fail(`has more than ${AWS_TAG_LIMITS.tags} tags`);
  // AWS compares keys without case.
  if (new Set(keys.map((key) => key.toLowerCase())).size !== keys.length) fail("has a key twice");
  for (const [key, value] of Object.entries(own)) {
    const isKey = key !== "" && key.length <= AWS_TAG_LIMITS.keyCharacters && TAG_CHARACTERS.test(key);
    if (!isKey || /^aws:/i.test(key)) fail("is no key of a session tag", [key]);
    else if (key.toLowerCase().startsWith(TAG_PREFIX)) fail(`must not begin with ${TAG_PREFIX}`, [key]);
    if (value.length > AWS_TAG_LIMITS.valueCharacters || !TAG_CHARACTERS.test(value))
      fail("is no value of a session tag", [key]);
  }
});

/** Where the credentials come from that take up the role; exactly one of them. */
const SOURCES = ["secret", "web_identity", "environment"] as const;

/** Shape of `credential: { aws: … }`. */
export const awsSettingsValue = z
  .strictObject({
    /** The role that sessions are made of. */
    role_arn: roleArn,
    /** Whose STS is asked; given to the agent's tools too. */
    region,
    /** IAM policies by the names that grants call them by (`policy:`). */
    session_policies: z
      .record(z.string().regex(NAME_PATTERN), sessionPolicyValue)
      .refine((policies) => Object.keys(policies).length <= MAX_POLICIES, {
        error: `has more than ${MAX_POLICIES} policies`,
      })
      .optional(),
    /** A secret of the vault: `{"access_key_id": …, "secret_access_key": …, "session_token"?: …}`. */
    secret: nameValue.optional(),
    /** No AWS key at all: a token of ours, for this audience. */
    web_identity: z.strictObject({ audience: textValue.default("sts.amazonaws.com") }).optional(),
    /** The `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` that Ephor was started with. */
    environment: z.literal(true).optional(),
    external_id: z
      .string()
      .regex(/^[\w+=,.@:/-]{2,1224}$/, { error: "must be an external id of AWS" })
      .optional(),
    /** A private endpoint of STS, in place of the region's public one. */
    endpoint: endpoint.optional(),
    /** A private endpoint of IAM, in place of the partition's public one: where the key in `secret` is rotated. */
    iam_endpoint: endpoint.optional(),
    /** How often Ephor gives the user of the key in `secret` a new one by itself. Absent: only when asked. */
    rotate_every: rotateEveryValue.optional(),
    /** Seconds; the lease's end is in the policy, so the least is best. */
    duration_seconds: z.int().min(DURATION.min).max(DURATION.max).default(DURATION.min),
    /** Session tags beside ours. */
    tags: tags.optional(),
  })
  .superRefine((settings, ctx) => {
    const given = SOURCES.filter((source) => settings[source] !== undefined);
    if (given.length !== 1) ctx.addIssue({ code: "custom", message: `must have exactly one of ${SOURCES.join(", ")}` });
    if (settings.web_identity !== undefined && settings.external_id !== undefined)
      ctx.addIssue({ code: "custom", message: "has no use with web_identity", path: ["external_id"] });
    for (const key of ["iam_endpoint", "rotate_every"] as const)
      if (settings[key] !== undefined && settings.secret === undefined)
        ctx.addIssue({ code: "custom", message: "has no use without secret", path: [key] });
  });

/** Settings of `credential: { aws: … }`, as the trust file writes them. */
export type AwsSettings = z.infer<typeof awsSettingsValue>;

const accessKey = /^\w{16,128}$/;

/** What the vault's secret must hold. */
export const awsKeysValue = z.strictObject({
  access_key_id: z.string().regex(accessKey),
  secret_access_key: z.string().min(1).max(TRUST_LIMITS.anyTextCharacters),
  session_token: z.string().min(1).max(TRUST_LIMITS.anyTextCharacters).optional(),
});

/** What an STS must answer with. */
export const awsAnswerValue = z.object({
  AccessKeyId: z.string().regex(accessKey),
  SecretAccessKey: z.string().min(1),
  SessionToken: z.string().min(1),
  Expiration: z.date(),
});
