import {
  InvalidDpopProofError,
  InvalidGrantError,
  InvalidRequestError,
  InvalidTargetError,
  OAuthError,
  UnsupportedGrantTypeError,
} from "../core/oauth/errors.ts";
import { readForm } from "../core/oauth/form.ts";
import { canonicalTarget } from "../core/oauth/target.ts";
import { readTraceparent } from "../core/oauth/traceparent.ts";
import { ulid } from "../system/random.ts";
import type { StsDeps } from "./deps.ts";
import { clientCredentials } from "./grants/client-credentials.ts";
import type { Grant, Proof } from "./grants/grant.ts";
import { jwtBearer } from "./grants/jwt-bearer.ts";
import { tokenExchange } from "./grants/token-exchange.ts";
import { issue } from "./issue.ts";
import { readProof } from "./proof.ts";
import type { Context, OAuthAnswer, OAuthRequest } from "./request.ts";
import { recordRefusal, type Trail } from "./trail.ts";
import { readWanted, type Wanted } from "./wanted.ts";

const GRANTS: ReadonlyMap<string, Grant> = new Map(
  [tokenExchange, clientCredentials, jwtBearer].map((grant) => [grant.type, grant]),
);

/**
 * `POST /token`. The phases are the same for every grant type: read, prove possession, prove who asks, read what is
 * wanted, decide and record at the gate, sign. Whatever is thrown is caught once and recorded with its reason; the edge
 * gives it its bland face.
 */
export function createTokenEndpoint(deps: StsDeps): (request: OAuthRequest) => Promise<OAuthAnswer> {
  const url = `${deps.issuer}/token`;

  async function token(request: OAuthRequest, trail: Trail): Promise<OAuthAnswer> {
    const form = readForm(request.body);
    await deps.keys.fresh();
    const grantType = form.get("grant_type");
    if (grantType === undefined)
      throw new InvalidRequestError({ reason: "parameter_missing", help: "grant_type is required." });
    const grant = GRANTS.get(grantType);
    if (!grant) throw new UnsupportedGrantTypeError({ reason: "grant_type_unsupported" });
    trail.grantType = grant.name;
    const proof = readProof(deps, request.dpop, { method: "POST", url, nonce: true });
    const context: Context = {
      form,
      requestId: request.requestId,
      remoteAddress: request.remoteAddress,
      traceId: trail.traceId,
      authorization: request.authorization,
      proof,
      proved: (acting) => {
        trail.acting = acting;
      },
    };
    const proved = await grant.prove(deps, context);
    const wanted = readWanted(form, deps.trustDomain);
    checkBounds(proved, wanted, proof?.jkt);
    const nowMs = deps.clock.nowMs();
    return await issue(
      deps,
      {
        context,
        trail,
        proved,
        wanted,
        replay: proved.replay ?? [],
        txn: ulid(nowMs),
        jti: ulid(nowMs),
      },
      grant.words,
    );
  }

  return async function tokenEndpoint(request) {
    const trail: Trail = {
      type: "token.issue",
      requestId: request.requestId,
      remoteAddress: request.remoteAddress,
      traceId: readTraceparent(request.traceparent)?.traceId,
    };
    try {
      const answer = await token(request, trail);
      deps.metrics.tokenRequests.inc({ grant: trail.grantType ?? "none", result: "granted" });
      if (request.dpop === undefined) return answer;
      return { ...answer, headers: { ...answer.headers, "dpop-nonce": deps.dpopNonces.current(deps.clock.now()) } };
    } catch (error) {
      deps.metrics.tokenRequests.inc({ grant: trail.grantType ?? "none", result: "refused" });
      throw await refused(deps, trail, error);
    }
  };
}

/** What the presented grant itself is bound to: a target, a key (draft-ietf-oauth-identity-assertion-authz-grant §5). */
function checkBounds(proved: Proof, wanted: Wanted, jkt: string | undefined): void {
  const target = canonicalTarget(wanted.target);
  if (proved.onlyTargets !== undefined && !proved.onlyTargets.some((only) => canonicalTarget(only) === target)) {
    throw new InvalidTargetError({ reason: "target_not_granted" });
  }
  if (proved.jkt !== undefined && jkt === undefined) throw new InvalidGrantError({ reason: "dpop_missing" });
  if (proved.jkt !== undefined && proved.jkt !== jkt) throw new InvalidDpopProofError({ reason: "dpop_key_mismatch" });
}

/**
 * Records a refusal, and says what to show: the refusal, or that it could not be recorded. The edge counts it.
 */
export async function refused(deps: StsDeps, trail: Trail, error: unknown): Promise<unknown> {
  if (!(error instanceof OAuthError)) {
    deps.log.error("request_failed", { requestId: trail.requestId, reason: "internal", err: error });
  }
  const reason = error instanceof OAuthError ? error.reason : "internal";
  try {
    await recordRefusal(deps, trail, reason, error instanceof OAuthError ? { ...error.facts } : {});
    return error;
  } catch (failure) {
    // INV-29: a refusal that cannot be recorded is answered as what it is, the database being away.
    return failure instanceof OAuthError ? failure : error;
  }
}
