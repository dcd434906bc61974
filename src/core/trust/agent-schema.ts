import { z } from "zod";
import { TRUST_LIMITS } from "./limits.ts";
import type { Agent, PublicJwk } from "./model.ts";
import { dateSeconds, dateValue, matchersValue, nameValue, publicJwkValue, textValue } from "./values.ts";

const ruleWire = z.strictObject({ issuer: nameValue, claims: matchersValue, by_name: z.boolean().optional() });

/** An agent as the trust file and the API write it (CONTRACT §4). */
export const agentWire = z
  .strictObject({
    owner: textValue,
    purpose: textValue.optional(),
    review_by: dateValue.optional(),
    trust: z.array(ruleWire).min(1).max(TRUST_LIMITS.rules).optional(),
    keys: z.array(publicJwkValue).min(1).max(TRUST_LIMITS.keys).optional(),
    subject_from: matchersValue.optional(),
  })
  .superRefine((wire, ctx) => {
    if (wire.trust === undefined && wire.keys === undefined) {
      ctx.addIssue({
        code: "custom",
        message: "or keys is needed: without them nobody can be this agent",
        path: ["trust"],
      });
    }
  });

/** The same with what an operator sets beside it; so it lies in the database. */
export const storedAgentWire = agentWire.safeExtend({ status: z.enum(["active", "suspended"]).optional() });

/** One for all: a million agents have none. */
const NO_KEYS: readonly PublicJwk[] = [];

/** Makes the model of an agent. */
export function toAgent(name: string, wire: z.infer<typeof storedAgentWire>): Agent {
  return {
    name,
    owner: wire.owner,
    ...(wire.purpose !== undefined && { purpose: wire.purpose }),
    ...(wire.review_by !== undefined && { reviewBy: dateSeconds(wire.review_by) }),
    trust: (wire.trust ?? []).map((rule) => ({
      issuer: rule.issuer,
      claims: rule.claims,
      ...(rule.by_name === true && { byName: true }),
    })),
    keys: (wire.keys ?? NO_KEYS) as readonly PublicJwk[],
    ...(wire.subject_from !== undefined && { subjectFrom: wire.subject_from }),
    status: wire.status ?? "active",
  };
}
