import { z } from "zod";
import type { EpochSeconds } from "../../core/time.ts";
import { ProviderError } from "../provider-error.ts";
import { intersect } from "./aws-intersection.ts";
import { MAX_ENTRIES, statementsOf, statementValue } from "./aws-statement.ts";
import type { PolicyStatement } from "./aws-statement.ts";

/** Characters of the plaintext of all session policies of one call (STS API reference, `Policy`). */
const MAX_POLICY_CHARACTERS = 2048;

/** What the `Policy` parameter may hold; anything else AWS refuses for the whole policy. */
const POLICY_TEXT = /^[\x20-\xff]*$/;

/**
 * An IAM policy as the trust file writes it under `session_policies`: what it does not allow, a session bound by it may not
 * do, whatever the role allows. Without `Version` it is read as 2012-10-17, which is what everybody means.
 *
 * @see IAM User Guide, "IAM JSON policy elements reference"
 */
export const sessionPolicyValue = z
  .strictObject({
    Version: z.literal("2012-10-17").optional(),
    Id: z.string().optional(),
    Statement: z.union([statementValue, z.array(statementValue).min(1).max(MAX_ENTRIES)]),
  })
  .superRefine((policy, ctx) => {
    const statements = statementsOf(policy);
    const fail = (message: string): void => ctx.addIssue({ code: "custom", message });
    if (!statements.some(({ Effect }) => Effect === "Allow")) fail("must allow something; what it does not is refused");
    const text = policyText(statements, 0);
    if (!POLICY_TEXT.test(text)) fail("has characters that AWS takes in no policy");
    if (text.length > MAX_POLICY_CHARACTERS)
      fail(
        `has ${text.length} characters together with the statements that end it; AWS takes ${MAX_POLICY_CHARACTERS}`,
      );
  });

/** A parsed session policy. */
export type SessionPolicy = z.infer<typeof sessionPolicyValue>;

const EVERYTHING: PolicyStatement = { Effect: "Allow", Action: "*", Resource: "*" };

/**
 * INVARIANT: no way out of the session. Role chaining, `AssumeRoot` and the token calls of STS answer with a session or a
 * token that this policy does not bind and that lives up to an hour or more.
 */
const NO_OTHER_SESSION: PolicyStatement = { Effect: "Deny", Action: ["sts:Assume*", "sts:Get*Token"], Resource: "*" };

/**
 * The `Policy` of one session: what all the named policies allow (with none, what the role allows), until `endsAt` and in
 * this session alone. Both ends are explicit denials, which win over every Allow, also over that of a resource's policy
 * which names the session.
 *
 * @param endsAt seconds since the epoch; from that second of AWS's clock on everything is denied
 * @throws {ProviderError} `cannot_bound`: code `session_policies_not_intersectable`, or `PackedPolicyTooLarge` over 2048
 *   characters
 * @see IAM User Guide, "Policy evaluation logic", "Global condition keys" (aws:CurrentTime)
 */
export function boundPolicy(named: readonly SessionPolicy[], endsAt: EpochSeconds): string {
  const statements = named.length === 0 ? [EVERYTHING] : intersect(named.map(statementsOf));
  if (statements === undefined) throw new ProviderError("cannot_bound", { code: "session_policies_not_intersectable" });
  const text = policyText(statements, endsAt);
  if (text.length > MAX_POLICY_CHARACTERS) throw new ProviderError("cannot_bound", { code: "PackedPolicyTooLarge" });
  return text;
}

/** @returns seconds as AWS reads and writes them in policies and answers, `2026-11-22T12:00:45Z` */
export function awsTime(seconds: EpochSeconds): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}

function policyText(statements: readonly PolicyStatement[], endsAt: EpochSeconds): string {
  const dead: PolicyStatement = {
    Effect: "Deny",
    Action: "*",
    Resource: "*",
    Condition: { DateGreaterThanEquals: { "aws:CurrentTime": awsTime(endsAt) } },
  };
  // A Sid means nothing in a session, must be unique within a policy, and costs characters.
  const bare = statements.map((statement) => ({ ...statement, Sid: undefined }));
  return JSON.stringify({ Version: "2012-10-17", Statement: [...bare, NO_OTHER_SESSION, dead] });
}
