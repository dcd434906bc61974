import type { AccessTokenFacts } from "../core/token/build.ts";
import { buildAccessTokenClaims } from "../core/token/build.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { Wanted } from "./wanted.ts";

/** Claims of a transaction token (draft-ietf-oauth-transaction-tokens-10 §5). */
export interface TxnTokenClaims {
  readonly iss: string;
  readonly aud: string;
  readonly sub: string;
  readonly txn: string;
  readonly scope: string;
  /** The requesting workload: the agent, by its name here. */
  readonly req_wl: string;
  readonly jti: string;
  readonly iat: EpochSeconds;
  readonly exp: EpochSeconds;
  readonly tctx?: Readonly<Record<string, unknown>>;
  readonly rctx?: Readonly<Record<string, unknown>>;
}

/**
 * @param facts as for an access token, whose bounds (life, size, depth) hold here too
 * @throws {InvalidScopeError} `scope_too_large`
 */
export function txnTokenClaims(facts: AccessTokenFacts, wanted: Wanted): TxnTokenClaims {
  const base = buildAccessTokenClaims(facts);
  return {
    iss: base.iss,
    aud: base.aud,
    sub: base.sub,
    txn: base.txn,
    scope: base.scope,
    req_wl: base.client_id,
    jti: base.jti,
    iat: base.iat,
    exp: base.exp,
    ...(wanted.details === undefined ? {} : { tctx: wanted.details }),
    ...(wanted.context === undefined ? {} : { rctx: wanted.context }),
  };
}
