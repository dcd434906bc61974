import { z } from "zod";
import { conditionProblem } from "../grants/condition.ts";
import { TRUST_LIMITS } from "./limits.ts";
import type { AccessGrant, ApprovalRule, DelegationGrant, Grant, OnBehalfOf } from "./model.ts";
import { actionValue } from "./resource-schema.ts";
import {
  asList,
  dateSeconds,
  dateValue,
  durationSeconds,
  durationValue,
  matchersValue,
  nameValue,
  oneOrMany,
  readDuration,
} from "./values.ts";

const partyValue = z.union([
  z.strictObject({ issuer: nameValue, claims: matchersValue.optional() }),
  z.strictObject({ agent: nameValue }),
]);

const approverValue = z.union([
  z.enum(["owner", "self"]),
  z.strictObject({ agent: nameValue }),
  z.strictObject({ group: nameValue }),
]);

/** Seconds that an approval is waited for and good for, from when it is asked for. */
const WITHIN = { default: 600, min: 10, max: 86_400 } as const;

const approvalValue = z.strictObject({
  by: oneOrMany(approverValue, TRUST_LIMITS.parties),
  within: durationValue
    .refine((text) => (readDuration(text) ?? 0) >= WITHIN.min && (readDuration(text) ?? 0) <= WITHIN.max, {
      error: "must be 10s to 24h",
    })
    .optional(),
  count: z.number().int().min(1).max(2).optional(),
  /** An empty list: nobody is told. */
  notify: z.array(nameValue).max(TRUST_LIMITS.parties).optional(),
});

const common = {
  name: nameValue.optional(),
  agent: nameValue,
  on_behalf_of: oneOrMany(partyValue, TRUST_LIMITS.parties).optional(),
  until: dateValue.optional(),
};

/** Permission to use actions at a resource, as the trust file and the API write it (CONTRACT §4). */
export const accessGrantWire = z
  .strictObject({
    ...common,
    resource: nameValue,
    actions: z
      .array(z.union([z.literal("*"), actionValue]))
      .min(1)
      .max(TRUST_LIMITS.actions),
    allow_all: z.boolean().optional(),
    when: z.string().min(1).max(TRUST_LIMITS.conditionCharacters).optional(),
    approval: approvalValue.optional(),
    ttl: durationValue.optional(),
    once: z.boolean().optional(),
    policy: nameValue.optional(),
    residual: z.union([z.enum(["none", "unlimited"]), durationValue]).optional(),
  })
  .superRefine((wire, ctx) => {
    const wildcard = wire.actions.includes("*");
    if (wildcard && wire.allow_all !== true) {
      ctx.addIssue({
        code: "custom",
        message: 'has "*" without allow_all',
        path: ["actions"],
        params: { mend: "name the actions, or say allow_all: true" },
      });
    }
    if (wire.allow_all === true && (!wildcard || wire.actions.length > 1)) {
      ctx.addIssue({ code: "custom", message: 'must be ["*"] with allow_all', path: ["actions"] });
    }
    const condition = wire.when === undefined ? undefined : conditionProblem(wire.when);
    if (condition !== undefined) ctx.addIssue({ code: "custom", message: condition, path: ["when"] });
    // Tokens live under 60 seconds whatever a grant says; a longer ttl is a misunderstanding.
    if (wire.ttl !== undefined && (readDuration(wire.ttl) ?? 0) > 59) {
      ctx.addIssue({ code: "custom", message: "must be at most 59s", path: ["ttl"] });
    }
  });

/** Permission to hand work over, as the trust file and the API write it. */
export const delegationGrantWire = z.strictObject({
  ...common,
  delegate_to: z.array(nameValue).min(1).max(TRUST_LIMITS.parties),
});

/** Whether a raw grant is one to hand over. */
export function isDelegation(raw: object): boolean {
  return Object.hasOwn(raw, "delegate_to");
}

/** The name of a grant that carries none: after its agent and its resource. */
export function defaultGrantName(raw: { agent: string; resource?: string }): string {
  return `${raw.agent}-${raw.resource ?? "delegate"}`;
}

/** Makes the model of a grant. */
export function toGrant(name: string, wire: unknown): Grant {
  return isDelegation(wire as object)
    ? toDelegation(name, wire as z.infer<typeof delegationGrantWire>)
    : toAccess(name, wire as z.infer<typeof accessGrantWire>);
}

function toAccess(name: string, wire: z.infer<typeof accessGrantWire>): AccessGrant {
  return {
    kind: "access",
    name,
    agent: wire.agent,
    resource: wire.resource,
    actions: wire.actions,
    allowAll: wire.allow_all ?? false,
    ...toParties(wire),
    ...(wire.when !== undefined && { when: wire.when }),
    ...(wire.ttl !== undefined && { ttlSeconds: durationSeconds(wire.ttl) }),
    ...(wire.until !== undefined && { until: dateSeconds(wire.until) }),
    ...(wire.approval !== undefined && { approval: toApproval(wire.approval) }),
    once: wire.once ?? false,
    ...(wire.policy !== undefined && { policy: wire.policy }),
    ...(wire.residual !== undefined && { residual: toResidual(wire.residual) }),
  };
}

function toApproval({ by, within, count, notify }: z.infer<typeof approvalValue>): ApprovalRule {
  return {
    by: asList(by),
    withinSeconds: within === undefined ? WITHIN.default : durationSeconds(within),
    count: count ?? 1,
    ...(notify !== undefined && { notify }),
  };
}

function toDelegation(name: string, wire: z.infer<typeof delegationGrantWire>): DelegationGrant {
  return {
    kind: "delegation",
    name,
    agent: wire.agent,
    delegateTo: wire.delegate_to,
    ...toParties(wire),
    ...(wire.until !== undefined && { until: dateSeconds(wire.until) }),
  };
}

function toParties(wire: { on_behalf_of?: unknown }): { onBehalfOf?: readonly OnBehalfOf[] } {
  return wire.on_behalf_of === undefined ? {} : { onBehalfOf: asList(wire.on_behalf_of as OnBehalfOf | OnBehalfOf[]) };
}

function toResidual(text: string): "none" | "unlimited" | number {
  return text === "none" || text === "unlimited" ? text : durationSeconds(text);
}
