import type { EpochSeconds } from "../../core/time.ts";
import { ProviderError } from "../provider-error.ts";
import type { CredentialProvider, Minted, MintOrder } from "../provider.ts";
import { readAwsKeys } from "./aws-keys.ts";
import { awsTime, boundPolicy } from "./aws-policy.ts";
import { createAwsRotation } from "./aws-rotation.ts";
import { awsAnswerValue, awsSettingsValue } from "./aws-settings.ts";
import type { AwsSettings } from "./aws-settings.ts";
import { createSts } from "./aws-sts.ts";
import type { AwsKeys, Sts } from "./aws-sts.ts";
import { sessionTags, sourceIdentity, transitiveTagKeys, webIdentityTags } from "./aws-tags.ts";

/** What the provider is handed by the composition root. */
export interface AwsDeps {
  /** For `environment: true`: the keys that Ephor was started with, asked at every mint; undefined where there are none. */
  readonly environment?: () => AwsKeys | undefined;
  /** Between two looks at a key that AWS has just made; in milliseconds. By default real time. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<unknown>;
}

/**
 * Sessions of an AWS role, by AssumeRole or, without any key of AWS, by AssumeRoleWithWebIdentity.
 *
 * AWS makes no session shorter than 900 s and ends none early. So each carries a session policy that denies everything from
 * the lease's end on, by AWS's own clock, and every way to another session: there is no `destroy`, `upstreamExpiresAt` is
 * AWS's own end, and what is left after the lease's end can do nothing (`residualSeconds` 0). Three things are beyond any
 * policy, and belong into the operator's mind: GetCallerIdentity answers until AWS's own end, and with it whoever takes it
 * as proof of identity (EKS, Vault); what a session made while it was alive stays (an access key, a token of another
 * service): a named session policy should not allow that; a connection that a service opened is not closed.
 *
 * Seen at AWS: the lease as RoleSessionName, the agent as SourceIdentity, session tags for human, agent, txn, trace and
 * purpose. The credential: `{ access_key_id, secret_access_key, session_token, expiration, region }`, where `expiration` is
 * the lease's end, so that SDKs ask again in time.
 *
 * `mint` throws {@link ProviderError}; codes in CamelCase are AWS's, the others ours: `session_policy_unknown`,
 * `session_policies_not_intersectable`, `keys_missing`, `web_identity_unavailable`, `source_identity_missing`.
 */
export function createAwsProvider(deps: AwsDeps = {}): CredentialProvider<AwsSettings> {
  const sts = createSts();
  return {
    kind: "aws",
    settings: awsSettingsValue,
    secrets: ({ secret }) => (secret === undefined ? [] : [secret]),
    residualSeconds: () => 0,
    rotation: createAwsRotation(deps.wait),
    mint: (order, signal) => mint(order, signal, { sts, deps }),
  };
}

async function mint(
  order: MintOrder<AwsSettings>,
  signal: AbortSignal,
  { sts, deps }: { sts: Sts; deps: AwsDeps },
): Promise<Minted> {
  const { settings, lease } = order;
  const role = {
    RoleArn: settings.role_arn,
    RoleSessionName: lease.id,
    DurationSeconds: settings.duration_seconds,
    Policy: boundPolicy(namedPolicies(order), order.endsAt),
  };
  const at = { target: { region: settings.region, endpoint: settings.endpoint }, signal };
  if (settings.web_identity !== undefined) {
    const token = await webIdentity(order, settings.web_identity.audience);
    const answer = await sts.assumeRoleWithWebIdentity({ ...at, input: { ...role, WebIdentityToken: token } });
    return minted(order, answer);
  }
  const tags = sessionTags(lease, settings.tags);
  const input = {
    ...role,
    SourceIdentity: sourceIdentity(lease.agent),
    Tags: [...tags],
    TransitiveTagKeys: [...transitiveTagKeys(tags)],
    ExternalId: settings.external_id,
  };
  return minted(order, await sts.assumeRole({ ...at, input, keys: baseKeys(order, deps) }));
}

function namedPolicies({ settings, policies }: MintOrder<AwsSettings>) {
  const known = new Map(Object.entries(settings.session_policies ?? {}));
  return policies.map((name) => {
    const policy = known.get(name);
    if (policy === undefined) throw new ProviderError("cannot_bound", { code: "session_policy_unknown" });
    return policy;
  });
}

async function webIdentity({ lease, settings, upstream }: MintOrder<AwsSettings>, audience: string): Promise<string> {
  if (upstream.webIdentity === undefined)
    throw new ProviderError("credentials_refused", { code: "web_identity_unavailable" });
  return await upstream.webIdentity(audience, webIdentityTags(lease, settings.tags));
}

/** The keys that sign AssumeRole. As strings, since the SDK takes no other form; it is dropped with the call. */
function baseKeys({ settings, secrets }: MintOrder<AwsSettings>, deps: AwsDeps): AwsKeys {
  if (settings.secret === undefined) {
    const keys = deps.environment?.();
    if (keys === undefined) throw new ProviderError("credentials_refused", { code: "keys_missing" });
    return keys;
  }
  const secret = secrets.get(settings.secret);
  if (secret === undefined) throw new ProviderError("secret_malformed", { code: "keys_missing" });
  return secret.use(readAwsKeys);
}

/** What AWS answered, if it is what was ordered; else it stays here and can do nothing after the lease's end. */
function minted(
  { settings, lease, endsAt }: MintOrder<AwsSettings>,
  answer: { readonly Credentials?: unknown; readonly SourceIdentity?: string | undefined },
): Minted {
  const credentials = awsAnswerValue.safeParse(answer.Credentials);
  if (!credentials.success) throw new ProviderError("answer_malformed");
  // A web-identity token without the claim, or an STS that ignores it, would give a session without a name.
  if (answer.SourceIdentity !== sourceIdentity(lease.agent))
    throw new ProviderError("answer_malformed", { code: "source_identity_missing" });
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = credentials.data;
  const upstreamExpiresAt: EpochSeconds = Math.floor(Expiration.getTime() / 1000);
  return {
    credential: {
      access_key_id: AccessKeyId,
      secret_access_key: SecretAccessKey,
      session_token: SessionToken,
      expiration: awsTime(endsAt),
      region: settings.region,
    },
    handle: {},
    upstreamExpiresAt,
    marks: [
      { kind: "aws_access_key_id", value: AccessKeyId },
      { kind: "aws_role_session_name", value: lease.id },
    ],
  };
}
