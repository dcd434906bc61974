import { z } from "zod";
import { EPHOR_ACTIONS } from "./ephor-resource.ts";
import { TRUST_LIMITS } from "./limits.ts";
import type { Operator, SignIn } from "./model.ts";
import { asList, matchersValue, nameValue, oneOrMany, textValue } from "./values.ts";

/** What an operator may do where the entry does not say. */
const DEFAULT_ROLES = ["read", "approve"] as const;

const emailValue = textValue.refine((text) => /^[^\s@]+@[^\s@]+$/.test(text), {
  error: "must be an address like dana@acme.example",
});

const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const guidValue = z.string().regex(GUID, { error: "must be a GUID, in lower case" });
/** Slack's ids: `T0123ABCD` of a workspace (`E…` of an Enterprise organisation), `U0123ABCD` or `W0123ABCD` of a person. */
const slackTeam = z.string().regex(/^[TE][A-Z0-9]{2,20}$/, { error: "must be the id of a workspace, like T0123ABCD" });
const slackUser = z.string().regex(/^[UW][A-Z0-9]{2,20}$/, { error: "must be the id of a member, like U0123ABCD" });

const signInValue = z.strictObject({ issuer: nameValue, claims: matchersValue }).superRefine(({ claims }, ctx) => {
  // One entry is one person: only `sub` is never given to another one, and who asked is known by it.
  const { sub } = claims;
  if (typeof sub !== "string" || sub === "") {
    ctx.addIssue({
      code: "custom",
      message: sub === undefined ? "is missing" : "must be one text",
      path: ["claims", "sub"],
      params: { mend: "write the `sub` that the issuer gives this one person; sign in at the console to see it" },
    });
  }
});

function noneTwice<T extends z.ZodType<string>>(value: T, max: number) {
  return z
    .array(value)
    .max(max)
    .refine((list) => new Set(list).size === list.length, { error: "names something twice" });
}

/** An operator as the trust file and the API write it. */
export const operatorWire = z
  .strictObject({
    email: emailValue.optional(),
    sign_in: oneOrMany(signInValue, TRUST_LIMITS.signIns).optional(),
    roles: noneTwice(z.enum(EPHOR_ACTIONS), EPHOR_ACTIONS.length).optional(),
    groups: noneTwice(nameValue, TRUST_LIMITS.groups).optional(),
    slack: z.strictObject({ team: slackTeam, user: slackUser }).optional(),
    teams: z.strictObject({ tenant: guidValue, user: guidValue }).optional(),
  })
  .superRefine((wire, ctx) => {
    if (wire.sign_in === undefined && wire.slack === undefined && wire.teams === undefined) {
      ctx.addIssue({
        code: "custom",
        message: "or slack or teams is needed: without them nobody can be this operator",
        path: ["sign_in"],
      });
    }
  });

/** Makes the model of an operator. */
export function toOperator(name: string, wire: z.infer<typeof operatorWire>): Operator {
  return {
    name,
    ...(wire.email !== undefined && { email: wire.email }),
    signIns: wire.sign_in === undefined ? [] : asList(wire.sign_in as SignIn | SignIn[]),
    roles: wire.roles ?? DEFAULT_ROLES,
    groups: wire.groups ?? [],
    ...(wire.slack !== undefined && { slack: wire.slack }),
    ...(wire.teams !== undefined && { teams: wire.teams }),
  };
}
