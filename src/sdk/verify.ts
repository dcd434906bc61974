/**
 * `ephor/verify`: what a tool server needs to judge Ephor's tokens (docs/verify.md). Everything exported here is public.
 */
export { createVerifier, type Needs, type Verifier } from "./verify/verifier.ts";
export type { RevocationMode, VerifierOptions } from "./verify/options.ts";
export type { ResourceCredential } from "./verify/credential.ts";
export type { Clock } from "./verify/clock.ts";
export type { FeedProblem } from "./verify/feed.ts";
export type { Presented, PresentedRequest } from "./verify/presented.ts";
export type { ProofMemory } from "./verify/proof.ts";
export type { ResourceMetadata } from "./verify/resource-metadata.ts";
export { RefusedError, type RefusalCode, type RefusalReason } from "./verify/refusal.ts";
export {
  ApprovalRefusedError,
  createApprovalVerifier,
  type ApprovalVerifier,
  type ApprovedCall,
  type VerifiedApproval,
} from "./verify/approval.ts";
export { actors, type Subject, type VerifiedToken } from "./verify/actors.ts";
export type { AccessTokenClaims, ActClaim } from "../core/token/claims.ts";
export { asResponse, honoMiddleware, type EphorVariables, type HonoContext } from "./verify/hono-middleware.ts";
export {
  expressMiddleware,
  type NodeMiddleware,
  type NodeRequest,
  type NodeResponse,
} from "./verify/express-middleware.ts";
export {
  mcpMiddleware,
  mcpTokenVerifier,
  requireScope,
  ScopeMissingError,
  type McpAuthInfo,
  type McpRequest,
} from "./verify/mcp-middleware.ts";
