import { releaseOf } from "../authz/release.ts";
import type { GateRefusal } from "../authz/gate.ts";
import {
  InvalidClientError,
  InvalidDpopProofError,
  InvalidRequestError,
  TemporarilyUnavailableError,
  type OAuthError,
} from "../core/oauth/errors.ts";
import { TOKEN_TYPE } from "../core/oauth/vocabulary.ts";
import type { StsDeps } from "./deps.ts";
import type { Origin, SubjectKey } from "./origin.ts";
import { plan, type Planned, type Request } from "./plan.ts";
import type { OAuthAnswer } from "./request.ts";

/** How a grant type words a refusal of its own token: `invalid_request` for exchange, `invalid_grant` for assertions. */
export type RefusalFace = (reason: GateRefusal) => OAuthError;

/**
 * The pipeline's end, the same for every grant type: the gate decides and records, a permit comes back, the key turns.
 *
 * @param words the error that the grant type has for its own token
 * @throws {OAuthError} for every refusal; the trail says whether the gate recorded it
 */
export async function issue(deps: StsDeps, request: Request, words: RefusalFace): Promise<OAuthAnswer> {
  const own = ownSubject(request);
  const known = own && (await deps.places.noted(own.subjectKey.key, own.agent));
  let origin: Origin = known ? { kind: "continue", place: known, subjectKey: own?.subjectKey } : request.proved.origin;
  for (let round = 0; round < 2; round++) {
    const current = origin;
    const result = await deps.authorizer.authorize(() => plan(deps, request, current));
    if (result.outcome === "granted") {
      if (own && current.kind === "open") {
        deps.places.note({ key: own.subjectKey.key, agent: own.agent, txn: request.txn, node: request.txn });
      }
      return answer(deps, request, result.permit, result.value);
    }
    if (result.outcome !== "continue") {
      request.trail.recorded = true;
      throw await refusalOf(deps, request, result.outcome, words);
    }
    // This subject token opened a task before: the request belongs there.
    const place = await deps.places.find(result.txn, result.node);
    // Swept long after its deadline: the subject token outlived the task it opened.
    if (!place) throw words("task_expired");
    const subjectKey = current.kind === "redeem" ? undefined : current.subjectKey;
    if (own) deps.places.note({ key: own.subjectKey.key, agent: own.agent, txn: result.txn, node: result.node });
    origin = { kind: "continue", place, ...(subjectKey === undefined ? {} : { subjectKey }) };
  }
  throw new TemporarilyUnavailableError({ reason: "gate_unknown_outcome" });
}

/**
 * An agent's own token and what binds it. Where its exchanges continue is noted, so that the gate need not be asked twice.
 * A human's is not: each time its claims are judged anew, and then those of the task.
 */
function ownSubject({ proved }: Request): { subjectKey: SubjectKey; agent: string } | undefined {
  const { origin, acting } = proved;
  if (origin.kind !== "open" || origin.subject.type !== "agent") return undefined;
  const { subjectKey } = origin;
  return subjectKey === undefined || subjectKey.singleUse ? undefined : { subjectKey, agent: acting.agent.name };
}

function answer(
  deps: StsDeps,
  request: Request,
  permit: Parameters<typeof deps.keys.signer.sign>[0],
  planned: Planned,
): OAuthAnswer {
  const { wanted, trail } = request;
  const token = signed(deps, permit, planned);
  const isAccessToken = wanted.tokenType === "access_token";
  const issuedType = { access_token: TOKEN_TYPE.accessToken, jwt: TOKEN_TYPE.jwt, txn_token: TOKEN_TYPE.txnToken }[
    wanted.tokenType
  ];
  const isExchange = trail.grantType === "token_exchange";
  const body = {
    access_token: token,
    token_type: isAccessToken ? (planned.bound ? "DPoP" : "Bearer") : "N_A",
    expires_in: planned.expiresInSeconds,
    scope: planned.claims.scope,
    ...(isExchange ? { issued_token_type: issuedType } : {}),
  };
  return {
    status: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...releaseOf(deps, permit),
  };
}

/** What was granted and cannot be signed was not released, and the record says so. */
function signed(deps: StsDeps, permit: Parameters<typeof deps.keys.signer.sign>[0], planned: Planned): string {
  try {
    return deps.keys.signer.sign(permit, { typ: planned.typ, claims: planned.claims });
  } catch (error) {
    deps.authorizer.withheld(permit);
    throw error;
  }
}

async function refusalOf(
  deps: StsDeps,
  request: Request,
  outcome: Parameters<RefusalFace>[0],
  words: RefusalFace,
): Promise<OAuthError> {
  if (outcome !== "replayed") return words(outcome);
  // Which of the things that work once was used before? Looked up only now: it is rare.
  const keys = [...request.proved.acting.replay, ...request.replay].map((entry) => entry.key);
  const proof = request.context.proof?.replayKey;
  const used = await deps.db.query<{ key: string }>("select key from ephor.replay where key = any($1)", [
    [...keys, ...(proof === undefined ? [] : [proof])],
  ]);
  if (used.some((row) => row.key === proof)) return new InvalidDpopProofError({ reason: "dpop_replayed" });
  if (used.some((row) => row.key.startsWith("assertion:"))) return new InvalidClientError({ reason: "token_replayed" });
  return words(outcome);
}

/** RFC 8693 §2.2.2: whatever is wrong with the subject or actor is `invalid_request`. */
export const exchangeWords: RefusalFace = (outcome) => new InvalidRequestError({ reason: outcome });
