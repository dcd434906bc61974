import type { LeaseFacts } from "../provider.ts";

/** Limits of session tags (IAM User Guide, "Pass session tags in AWS STS"). */
export const AWS_TAG_LIMITS = {
  /** Characters of a key. */
  keyCharacters: 128,
  /** Characters of a value. */
  valueCharacters: 256,
  /** Tags of ours and of the settings together; AWS takes 50. */
  tags: 40,
} as const;

/** What a key or a value may be made of. */
export const TAG_CHARACTERS = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u;

/** Begins every key of ours, so that none replaces a tag of the role, by which a policy may decide. */
export const TAG_PREFIX = "ephor:";

const HUMAN_SEPARATOR = "|";
const AGENT_SUBJECT = "agent|";

/** A session tag as the AWS API takes it. */
export interface SessionTag {
  readonly Key: string;
  readonly Value: string;
}

/**
 * Who acts in a session, for whom and why: `ephor:agent`, `ephor:human` (only where there is one), `ephor:txn`,
 * `ephor:trace`, `ephor:purpose`, then the settings' own. Each is seen by CloudTrail at the call that opens the session, and
 * by policies as `aws:PrincipalTag/…`. A character that AWS does not take is a `.`; what is too long is cut.
 */
export function sessionTags(lease: LeaseFacts, own: Readonly<Record<string, string>> = {}): readonly SessionTag[] {
  const human = lease.sub.startsWith(AGENT_SUBJECT) || !lease.sub.includes(HUMAN_SEPARATOR) ? undefined : lease.sub;
  const facts: readonly (readonly [string, string | undefined])[] = [
    ["agent", lease.agent],
    ["human", human],
    ["txn", lease.txn],
    ["trace", lease.traceId],
    ["purpose", lease.purpose],
  ];
  const tags: SessionTag[] = [];
  for (const [name, value] of facts) {
    if (value !== undefined && value !== "") tags.push({ Key: TAG_PREFIX + name, Value: tagValue(value) });
  }
  return [...tags, ...Object.entries(own).map(([Key, Value]) => ({ Key, Value }))];
}

/**
 * Of these tags the ones that say who is behind a session, which would follow it into another role. No session of ours can
 * take up another (its policy denies that); a service that does so for it keeps the names.
 */
export function transitiveTagKeys(tags: readonly SessionTag[]): readonly string[] {
  return tags.map(({ Key }) => Key).filter((key) => key.startsWith(TAG_PREFIX) && key !== `${TAG_PREFIX}purpose`);
}

/** @returns the agent's name as a SourceIdentity, of 2 to 64 characters; names are of a–z, 0–9 and - already */
export function sourceIdentity(agent: string): string {
  return agent.length < 2 ? `agent.${agent}` : agent;
}

/**
 * The claims that a web-identity token for AWS must carry beside `iss`, `sub` = `resource|<name>`, `aud`, `iat`, `exp` and
 * `jti`: AssumeRoleWithWebIdentity takes tags and source identity from the token and from nowhere else. The token must have
 * no `azp`, which AWS would take in place of `aud` for the trust policy's condition.
 *
 * @param own the settings' `tags`
 * @see IAM User Guide, "Passing session tags using AssumeRoleWithWebIdentity", "Monitor and control actions taken with
 *   assumed roles"
 */
export function webIdentityTags(lease: LeaseFacts, own: Readonly<Record<string, string>> = {}) {
  const tags = sessionTags(lease, own);
  return {
    "https://aws.amazon.com/tags": {
      principal_tags: Object.fromEntries(tags.map(({ Key, Value }): [string, string[]] => [Key, [Value]])),
      transitive_tag_keys: transitiveTagKeys(tags),
    },
    "https://aws.amazon.com/source_identity": sourceIdentity(lease.agent),
  };
}

function tagValue(text: string): string {
  const mapped = text.replaceAll(/[^\p{L}\p{Z}\p{N}_.:/=+\-@]/gu, ".");
  // By characters, so that none is cut in two.
  return [...mapped].slice(0, AWS_TAG_LIMITS.valueCharacters).join("");
}
