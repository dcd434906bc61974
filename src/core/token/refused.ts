/*
 * core/token owns the reading and the shape of tokens: strict base64url, JSON and JWS, the time and audience rules, the
 * lifetime, the claims of our access tokens, and DPoP proofs. It verifies no signature and knows no key: callers hand in
 * what decides those. Anybody may call it.
 */
import type { Facts, RefusalDetail } from "../oauth/errors.ts";
import type { Reason } from "../oauth/reasons.ts";

/**
 * A token, or a proof, that is not accepted. It says why to the audit event and nothing about the wire: the endpoint that
 * asked maps it (`invalid_request`, `invalid_grant`, `invalid_client`, `invalid_token` or `{"active":false}`).
 */
export class RefusedToken extends Error {
  readonly reason: Reason;
  readonly facts: Facts;

  constructor(detail: RefusalDetail, options?: { cause?: unknown }) {
    const { reason, ...facts } = detail;
    super(reason, options);
    this.name = "RefusedToken";
    this.reason = reason;
    this.facts = facts;
  }
}
