import { z } from "zod";

/** Statements of one policy and values of one element; more do not fit what AWS takes. */
export const MAX_ENTRIES = 50;

const oneOrMore = z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(MAX_ENTRIES)]);
const scalar = z.union([z.string(), z.number(), z.boolean()]);
const conditionValue = z.record(z.string(), z.record(z.string(), z.union([scalar, z.array(scalar)])));

/** Shape of one statement of a session policy: it has no principals. */
export const statementValue = z
  .strictObject({
    Sid: z.string().optional(),
    Effect: z.enum(["Allow", "Deny"]),
    Action: oneOrMore.optional(),
    NotAction: oneOrMore.optional(),
    Resource: oneOrMore.optional(),
    NotResource: oneOrMore.optional(),
    Condition: conditionValue.optional(),
  })
  .refine(({ Action, NotAction }) => (Action === undefined) !== (NotAction === undefined), {
    error: "must have either Action or NotAction",
  })
  .refine(({ Resource, NotResource }) => (Resource === undefined) !== (NotResource === undefined), {
    error: "must have either Resource or NotResource",
  })
  .refine(({ Effect, Action }) => Effect === "Deny" || ![Action ?? []].flat().some(namesAnotherSession), {
    error: "allows to take up another session, which would outlive the lease; make that role a resource of its own",
  });

/** One statement of an IAM policy. */
export type PolicyStatement = z.infer<typeof statementValue>;

/** The statements of a policy, which may have one alone in place of a list. */
export function statementsOf(policy: {
  readonly Statement: PolicyStatement | readonly PolicyStatement[];
}): readonly PolicyStatement[] {
  return [policy.Statement].flat();
}

/** A courtesy at the apply: every session is denied these, so a policy that asks for them by name would be misread. */
function namesAnotherSession(action: string): boolean {
  return /^sts:(?:assume|get\w*token$)/i.test(action);
}
