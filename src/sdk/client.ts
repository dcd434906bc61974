/**
 * `ephor/client`: an agent's side of Ephor (docs/client.md). Everything exported here is public.
 */
export { createClient, type Client, type ClientOptions } from "./client/agent.ts";
export type { AccessToken, TokenOrder, Work } from "./client/work.ts";
export type { Proof, TypedToken } from "./client/exchange.ts";
export type { Vended } from "./client/vend.ts";
export type { ClientClock } from "./client/house.ts";
export { fileProof, keyProof, platformProof, type Prover } from "./client/provers.ts";
export { awsCredentials, type AwsCredentials } from "./client/aws-credentials.ts";
export type { ApprovalFacts } from "./client/errors.ts";
export {
  ApprovalNeededError,
  DeniedError,
  EndedError,
  EphorError,
  KilledError,
  NotAuthenticatedError,
  UnavailableError,
} from "./client/outcome.ts";
