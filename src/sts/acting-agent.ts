import { InvalidClientError, InvalidRequestError, type OAuthError } from "../core/oauth/errors.ts";
import { CLIENT_ASSERTION_TYPE, TOKEN_TYPE } from "../core/oauth/vocabulary.ts";
import { agentSub } from "../core/delegation/chain.ts";
import type { ActorIdentity } from "../core/delegation/may-act.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Agent } from "../core/trust/model.ts";
import { isObjectName } from "../core/oauth/scope.ts";
import { OUTSIDE_TOKEN_MAX_BYTES, readJws } from "../core/token/jws.ts";
import { checkStillTrusted, type VerifiedToken } from "../federation/verify.ts";
import type { ReplayKey } from "../authz/ask.ts";
import type { StsDeps } from "./deps.ts";
import type { Context } from "./request.ts";

/** The one acting agent of a request, and how it was proved. */
export interface ActingAgent {
  readonly agent: Agent;
  readonly method: "workload" | "private_key_jwt";
  /** The workload's token, where it was one. */
  readonly workload?: VerifiedToken;
  /** All workload tokens of the request: each of them may be for single use. */
  readonly workloads: readonly VerifiedToken[];
  /** What this proof spends. */
  readonly replay: readonly ReplayKey[];
  /**
   * Judges the proof once more by the trust index as it is now. The pipeline calls it where it decides, for trust may have
   * changed since the proof was read (A-OIDC-02).
   *
   * @throws {OAuthError} when the agent, its issuer or the rule is no more
   */
  recheck(): void;
  /** Every name under which the agent is known, for `may_act`. */
  readonly identities: readonly ActorIdentity[];
}

/** Which face a bad token has, by the parameter that carried it. */
type Face = (detail: RefusedToken) => OAuthError;

const asRequestError: Face = (e) => new InvalidRequestError({ reason: e.reason, ...e.facts }, { cause: e });
const asClientError: Face = (e) => new InvalidClientError({ reason: e.reason, ...e.facts }, { cause: e });

/**
 * Who is asking (CONTRACT §5): `actor_token`, `client_assertion`, or else the workload's own subject token or assertion.
 *
 * @param subject the subject token where it was verified and is a workload's
 * @throws {InvalidRequestError} a bad actor token, none at all, or proofs that name different agents
 * @throws {InvalidClientError} a bad client assertion, or a client secret, which agents do not have
 */
export async function actingAgent(deps: StsDeps, context: Context, subject?: VerifiedToken): Promise<ActingAgent> {
  const clientId = context.form.get("client_id");
  refuseSecrets(context);
  const proofs: ActingAgent[] = [];
  const asserted = await clientAssertion(deps, context, clientId);
  if (asserted) proofs.push(asserted);
  const actor = await actorToken(deps, context, clientId);
  if (actor) proofs.push(actor);
  if (subject) proofs.push(matched(deps, subject, clientId, asRequestError));
  const [first, ...others] = proofs;
  if (!first)
    throw new InvalidRequestError({
      reason: "actor_missing",
      help: "Authenticate the acting agent by actor_token or client_assertion.",
    });
  if (others.some((other) => other.agent.name !== first.agent.name)) {
    throw new InvalidRequestError({ reason: "client_mismatch", agent: first.agent.name });
  }
  if (clientId !== undefined && clientId !== first.agent.name) {
    throw new InvalidRequestError({ reason: "client_mismatch", agent: first.agent.name });
  }
  const acting = {
    ...first,
    recheck: () => proofs.forEach((proof) => proof.recheck()),
    workloads: proofs.flatMap((proof) => proof.workloads),
    replay: proofs.flatMap((proof) => proof.replay),
    identities: proofs.flatMap((proof) => proof.identities),
  };
  context.proved?.(acting);
  return acting;
}

/** Agents have no secrets, so any secret here is somebody's mistake or a guess. */
function refuseSecrets(context: Context): void {
  const { form, authorization } = context;
  const hasSecret = form.has("client_secret");
  if (authorization !== undefined && (hasSecret || form.has("client_assertion"))) {
    throw new InvalidRequestError({ reason: "client_several_methods", help: "Use one client authentication method." });
  }
  if (hasSecret && form.has("client_assertion")) {
    throw new InvalidRequestError({ reason: "client_several_methods", help: "Use one client authentication method." });
  }
  if (authorization !== undefined || hasSecret) throw new InvalidClientError({ reason: "client_not_allowed" });
}

/** `client_assertion`: a platform's token under its issuer's rules, a JWT-SVID, or `private_key_jwt`. */
export async function clientAssertion(
  deps: StsDeps,
  context: Context,
  clientId?: string,
): Promise<ActingAgent | undefined> {
  const { form } = context;
  const assertion = form.get("client_assertion");
  const type = form.get("client_assertion_type");
  if (assertion === undefined && type === undefined) return undefined;
  if (assertion === undefined || type === undefined) {
    throw new InvalidRequestError({
      reason: "parameter_missing",
      help: "client_assertion and client_assertion_type go together.",
    });
  }
  if (type !== CLIENT_ASSERTION_TYPE.jwtBearer && type !== CLIENT_ASSERTION_TYPE.jwtSpiffe) {
    throw new InvalidClientError({ reason: "token_type_unsupported" });
  }
  const acting = await proveAgent(deps, assertion, { clientId, proofJkt: context.proof?.jkt });
  if (type === CLIENT_ASSERTION_TYPE.jwtSpiffe && acting.workload?.profile !== "spiffe") {
    throw new InvalidClientError({ reason: "token_type_unsupported" });
  }
  return acting;
}

async function actorToken(deps: StsDeps, context: Context, clientId?: string): Promise<ActingAgent | undefined> {
  const { form } = context;
  const token = form.get("actor_token");
  const type = form.get("actor_token_type");
  if (token === undefined && type === undefined) return undefined;
  if (token === undefined || type === undefined) {
    throw new InvalidRequestError({
      reason: "parameter_missing",
      help: "actor_token and actor_token_type go together.",
    });
  }
  if (type !== TOKEN_TYPE.jwt && type !== TOKEN_TYPE.idToken && type !== TOKEN_TYPE.accessToken) {
    throw new InvalidRequestError({ reason: "token_type_unsupported" });
  }
  try {
    const verified = await deps.federation.verify(token, {
      use: "actor",
      tokenType: type,
      proofJkt: context.proof?.jkt,
    });
    return matched(deps, verified, clientId, asRequestError);
  } catch (error) {
    throw faced(error, asRequestError);
  }
}

/**
 * An agent by a token of its own: `private_key_jwt` where `iss` names an agent, else its platform's.
 *
 * @param at.face which error a bad token becomes
 */
export async function proveAgent(
  deps: StsDeps,
  token: string,
  at: { clientId?: string | undefined; proofJkt?: string | undefined; face?: Face },
): Promise<ActingAgent> {
  const { clientId, face = asClientError } = at;
  try {
    const iss = readJws(token, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES }).payload["iss"];
    // No issuer is a bare name, so a name can only be an agent's own.
    if (typeof iss === "string" && isObjectName(iss)) {
      const own = await deps.federation.verifyPrivateKeyJwt(token, { clientId });
      return {
        agent: own.agent,
        method: "private_key_jwt",
        workloads: [],
        replay: [{ key: `assertion:${own.key}`, exp: own.exp + 60 }],
        identities: identitiesOf(deps, own.agent),
        recheck: () => {
          const still = deps.trust().agent(own.agent.name);
          if (still !== own.agent) throw face(new RefusedToken({ reason: "client_unknown", agent: own.agent.name }));
        },
      };
    }
    return matched(deps, await deps.federation.verify(token, { use: "client", proofJkt: at.proofJkt }), clientId, face);
  } catch (error) {
    throw faced(error, face);
  }
}

function matched(deps: StsDeps, verified: VerifiedToken, clientId: string | undefined, face: Face): ActingAgent {
  if (verified.identifies !== "workloads")
    throw face(new RefusedToken({ reason: "actor_not_workload", issuer: verified.issuer.name }));
  try {
    const agent = deps.federation.matchAgent(verified, clientId);
    return {
      agent,
      method: "workload",
      workload: verified,
      workloads: [verified],
      replay: [],
      identities: identitiesOf(deps, agent, verified),
      recheck: () => {
        try {
          checkStillTrusted(deps.trust(), verified.issuer);
          const now = deps.federation.matchAgent(verified, agent.name);
          if (now.owner !== agent.owner) throw new RefusedToken({ reason: "client_unknown", agent: agent.name });
        } catch (error) {
          throw faced(error, face);
        }
      },
    };
  } catch (error) {
    throw faced(error, face);
  }
}

function identitiesOf(deps: StsDeps, agent: Agent, verified?: VerifiedToken): ActorIdentity[] {
  const ours: ActorIdentity[] = [agentSub(agent.name), agent.name].map((sub) => ({
    sub,
    iss: deps.issuer,
    client_id: agent.name,
  }));
  const sub = verified?.claims["sub"];
  const iss = verified?.claims["iss"];
  return typeof sub === "string" ? [...ours, typeof iss === "string" ? { sub, iss } : { sub }] : ours;
}

/** A token's inner refusal in the face that its parameter has; anything else as it is. */
export function faced(error: unknown, face: Face = asRequestError): unknown {
  return error instanceof RefusedToken ? face(error) : error;
}

/**
 * What single-use workload tokens spend, whatever they were presented as: once, or again by the DPoP key they came with, at
 * the same place (CONTRACT §5). One that opened a task as its own subject is no proof beside another subject (A-OIDC-23).
 *
 * @param place task and node
 */
export function singleUseKeys(acting: ActingAgent, jkt: string | undefined, place: string): ReplayKey[] {
  const keys = acting.workloads
    .filter(({ issuer }) => issuer.singleUse)
    .map(({ key, exp }) => [`workload:${key}`, exp] as const);
  // The same token in two parameters is spent once.
  return [...new Map(keys)].map(([key, exp]) => ({
    key,
    exp: exp + 60,
    ...(jkt === undefined ? {} : { holder: `${place}.${jkt}` }),
  }));
}
