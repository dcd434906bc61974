import type { EpochSeconds } from "../core/time.ts";
import type { BoundContent } from "./content.ts";
import type { DecidedVia, StoredNeed } from "./deciders.ts";

/** Id of an approval: `apr_` and a ULID. */
export const APPROVAL_ID = /^apr_[0-7][0-9A-HJKMNP-TV-Z]{25}$/;

/** How an approval stands; `void` by a kill, the end of its work, or a change of what it hangs on. */
export type ApprovalState = "pending" | "approved" | "denied" | "used" | "expired" | "void";

/** Where a person looks at one, and decides. */
export function approvalUri(issuer: string, id: string): string {
  return `${issuer}/console/approvals/${id}`;
}

/** What somebody said. */
export interface StoredDecision {
  readonly decider: string;
  /** Of a person who is known by name; a key and a token have one way. */
  readonly via: DecidedVia | undefined;
  readonly decision: "approve" | "deny";
  readonly reason: string;
  readonly at: EpochSeconds;
  readonly killKeys: readonly string[];
  readonly killEpoch: number;
}

/** An approval, asked for and perhaps decided. */
export interface StoredApproval {
  readonly id: string;
  readonly digest: string;
  readonly txn: string;
  readonly agent: string;
  readonly sub: string;
  readonly resource: string;
  readonly action: string;
  readonly path: readonly string[];
  readonly purpose: string | undefined;
  readonly content: BoundContent;
  /** The call, sealed to the approval; what it says only `Approvals.shown` tells. */
  readonly sealed: unknown;
  /** JSON of an `ExactCall`, of one that was asked for before calls were sealed. */
  readonly shown: string | null;
  readonly needs: readonly StoredNeed[];
  readonly killKeys: readonly string[];
  readonly killEpoch: number;
  readonly createdAt: EpochSeconds;
  readonly expiresAt: EpochSeconds;
  readonly state: ApprovalState;
  readonly decisions: readonly StoredDecision[];
}

/** Whom approvals ask, where not all are meant: a reviewing agent, or the human on whose behalf the call is made. */
export type Asking = { readonly agent: string } | { readonly human: string };
