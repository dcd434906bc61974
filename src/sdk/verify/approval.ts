import { createHash } from "node:crypto";
import { canonicalJson } from "../../core/canonical-json.ts";
import { JWT_TYP } from "../../core/oauth/vocabulary.ts";
import { checkAudience, checkTimes, checkTyp, ownClaim, requireString } from "../../core/token/check.ts";
import { OUTSIDE_TOKEN_MAX_BYTES, readJws } from "../../core/token/jws.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import type { EpochSeconds } from "../../core/time.ts";
import type { VerifiedClaims } from "../../core/trust/subject.ts";
import { machineClock, type Clock } from "./clock.ts";
import { createKeySet, KeysUnavailableError } from "./key-set.ts";
import { createProofMemory, type ProofMemory } from "./proof.ts";
import type { RefusalReason } from "./refusal.ts";

/** Claims are read at once; this much of the clocks' difference is forgiven, in seconds. */
const SKEW_SECONDS = 5;
/** Longest life of a claim, in seconds. */
const LIFE_SECONDS = 60;

/** What a tool server was asked to do, in its own words. */
export interface ApprovedCall {
  /** The tool's name as it stands in scopes, or the resource's action. */
  readonly action: string;
  /**
   * A tool's `arguments`; of any other MCP method its `params` without `_meta`; of an HTTP call `{ query, body }`, each null
   * where there is none.
   */
  readonly arguments: unknown;
  /** Of an HTTP call. */
  readonly method?: string;
  /** The path of an HTTP call, below the resource. */
  readonly target?: string;
}

/** An approval that is for this call. */
export interface VerifiedApproval {
  readonly id: string;
  readonly txn: string;
  /** On whose behalf. */
  readonly sub: string;
  /** Agents, oldest first; the last one calls. */
  readonly path: readonly string[];
  readonly decidedBy: readonly { readonly by: string; readonly at: EpochSeconds; readonly via?: string }[];
  readonly claims: VerifiedClaims;
}

/** A call that must not be done: no approval came with it, a bad one, or one for something else. */
export class ApprovalRefusedError extends Error {
  override readonly name = "ApprovalRefusedError";
  /** For the tool server's own log. `approval_required`: none came; `approval_void`: it is for another call. */
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, options?: { cause?: unknown }) {
    super(reason, options);
    this.reason = reason;
  }
}

/** Judges the claims that come with approved calls, by the published record keys alone. */
export interface ApprovalVerifier {
  /**
   * @param claim the value of `Ephor-Approval`, or of `params._meta["ephor/approval"]`
   * @throws {ApprovalRefusedError}
   */
  verify(claim: string | null | undefined, call: ApprovedCall): Promise<VerifiedApproval>;
}

/**
 * @param options.issuer as in `iss`, exactly
 * @param options.resource identifier of the proxied resource: `<issuer>/mcp/<name>` or `<issuer>/http/<name>`
 * @param options.used where several processes serve: a memory that they share, so that an approval works once
 */
export function createApprovalVerifier(options: {
  readonly issuer: string;
  readonly resource: string;
  readonly used?: ProofMemory;
  readonly clock?: Clock;
}): ApprovalVerifier {
  const { issuer, resource, clock = machineClock } = options;
  const now = (): EpochSeconds => Math.floor(clock.nowMs() / 1_000);
  const keys = createKeySet(`${issuer}/.well-known/ephor-record-keys`);
  const used = options.used ?? createProofMemory(now);

  async function judged(claim: string, call: ApprovedCall): Promise<VerifiedApproval> {
    const jws = readJws(claim, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES, ownHeader: true });
    checkTyp(jws.header.typ, [JWT_TYP.approval]);
    await keys.prove(claim, jws);
    const { payload } = jws;
    if (requireString(payload, "iss") !== issuer) throw new RefusedToken({ reason: "token_issuer_unknown" });
    checkAudience(ownClaim(payload, "aud"), [resource]);
    const times = checkTimes(payload, {
      now: now(),
      skewSeconds: SKEW_SECONDS,
      aheadSeconds: SKEW_SECONDS,
      maxLifetimeSeconds: LIFE_SECONDS,
      requireIat: true,
    });
    if (!isFor(payload, call)) throw new RefusedToken({ reason: "approval_void" });
    const approval = approvalOf(payload);
    if (!(await used.spend(`approval:${approval.id}`, times.exp + SKEW_SECONDS + 1)))
      throw new RefusedToken({ reason: "replayed" });
    return approval;
  }

  return {
    async verify(claim, call) {
      if (claim === undefined || claim === null || claim === "") throw new ApprovalRefusedError("approval_required");
      try {
        return await judged(claim, call);
      } catch (error) {
        if (error instanceof RefusedToken) throw new ApprovalRefusedError(error.reason, { cause: error });
        if (error instanceof KeysUnavailableError) throw new ApprovalRefusedError("keys_unavailable", { cause: error });
        throw error;
      }
    },
  };
}

function isFor(payload: VerifiedClaims, call: ApprovedCall): boolean {
  const digest = createHash("sha256").update(canonicalJson(call.arguments)).digest("base64url");
  return (
    requireString(payload, "action") === call.action &&
    requireString(payload, "args_digest") === digest &&
    (call.method === undefined || ownClaim(payload, "method") === call.method) &&
    (call.target === undefined || ownClaim(payload, "target") === call.target)
  );
}

function approvalOf(payload: VerifiedClaims): VerifiedApproval {
  const path = ownClaim(payload, "path");
  const decidedBy = ownClaim(payload, "decided_by");
  if (!Array.isArray(path) || !Array.isArray(decidedBy) || decidedBy.length === 0)
    throw new RefusedToken({ reason: "token_claim_type" });
  return {
    id: requireString(payload, "jti"),
    txn: requireString(payload, "txn"),
    sub: requireString(payload, "sub"),
    path: path as string[],
    decidedBy: decidedBy as { by: string; at: EpochSeconds; via?: string }[],
    claims: payload,
  };
}
