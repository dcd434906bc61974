import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { Attestor } from "../keys/attestor.ts";
import type { StoredApproval } from "./approval.ts";

/** Seconds within which the tool server must have read it; the call leaves at once. */
const CLAIM_SECONDS = 60;

/**
 * What goes with an approved call to its upstream: a signed statement that this very call was approved, by whom, and that it
 * comes once (`jti`). A tool server checks it offline by Ephor's record keys.
 *
 * @param of.facts method and target of the call, plain words
 * @see CONTRACT §8 "Approval"
 */
export function approvalClaim(
  attestor: Attestor,
  approval: StoredApproval,
  of: { issuer: string; audience: string; now: EpochSeconds; facts: Readonly<Record<string, string>> },
): string {
  const { id, txn, sub, path, resource, action, content, decisions, expiresAt } = approval;
  const { issuer, audience, now, facts } = of;
  return attestor.sign(JWT_TYP.approval, {
    iss: issuer,
    aud: audience,
    jti: id,
    iat: now,
    exp: Math.min(expiresAt, now + CLAIM_SECONDS),
    sub,
    txn,
    path,
    resource,
    action,
    ...facts,
    args_digest: content.args,
    ...(content.tool !== null && { tool_digest: content.tool }),
    grants: content.trust.grants.map(({ name }) => name),
    decided_by: decisions
      .filter(({ decision }) => decision === "approve")
      .map(({ decider, at, via }) => ({ by: decider, at, ...(via !== undefined && { via }) })),
  });
}
