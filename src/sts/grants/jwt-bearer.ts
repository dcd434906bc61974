import { EVERY_ACTION } from "../../core/grants/scopes.ts";
import {
  InvalidClientError,
  InvalidGrantError,
  InvalidRequestError,
  InvalidScopeError,
} from "../../core/oauth/errors.ts";
import { scopeOf, splitScope, type ScopeParts } from "../../core/oauth/scope.ts";
import { GRANT_TYPE, ID_JAG_TYP } from "../../core/oauth/vocabulary.ts";
import { OUTSIDE_TOKEN_MAX_BYTES, readJws } from "../../core/token/jws.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import type { VerifiedIdJag } from "../../federation/id-jag.ts";
import { actingAgent, clientAssertion } from "../acting-agent.ts";
import type { StsDeps } from "../deps.ts";
import { forHuman, forItself } from "../origin.ts";
import type { Context } from "../request.ts";
import type { Grant, Proof } from "./grant.ts";

/**
 * The JWT bearer grant (RFC 7523 §2.1) in two modes: a workload's own token, without client authentication (MCP's
 * workload identity, SEP-1933), or an ID-JAG, for which client authentication is required.
 */
export const jwtBearer: Grant = {
  type: GRANT_TYPE.jwtBearer,
  name: "jwt_bearer",
  words: (outcome) => new InvalidGrantError({ reason: outcome }),
  async prove(deps, context) {
    const assertion = context.form.get("assertion");
    if (assertion === undefined)
      throw new InvalidRequestError({ reason: "parameter_missing", help: "assertion is required." });
    try {
      return isIdJag(assertion) ? await byIdJag(deps, context, assertion) : await byWorkload(deps, context, assertion);
    } catch (error) {
      throw asGrantError(error);
    }
  },
};

/** By its `typ` alone: each kind of token has its own, and nothing else is concluded from it. */
function isIdJag(assertion: string): boolean {
  const { typ } = readJws(assertion, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES }).header;
  // RFC 7515 §4.1.9: `application/` may be left out.
  return typ?.toLowerCase().replace(/^application\//, "") === ID_JAG_TYP;
}

async function byWorkload(deps: StsDeps, context: Context, assertion: string): Promise<Proof> {
  const verified = await deps.federation.verify(assertion, { use: "assertion", proofJkt: context.proof?.jkt });
  if (verified.identifies !== "workloads")
    throw new RefusedToken({ reason: "actor_not_workload", issuer: verified.issuer.name });
  const acting = await actingAgent(deps, context, verified);
  return { acting, origin: forItself(deps, acting, verified) };
}

async function byIdJag(deps: StsDeps, context: Context, assertion: string): Promise<Proof> {
  const acting = await clientAssertion(deps, context, context.form.get("client_id"));
  if (!acting) throw new InvalidClientError({ reason: "client_missing" });
  context.proved?.(acting);
  const grant = await deps.federation.verifyIdJag(assertion, acting.agent.name);
  const origin = forHuman(deps, acting, grant);
  return {
    acting,
    // Each ID-JAG works once and opens a task of its own.
    origin: { ...origin, subjectKey: undefined, ceiling: ceilingOf(deps, grant) },
    replay: [{ key: `id-jag:${grant.key}`, exp: grant.exp + 60 }],
    ...(grant.resource === undefined ? {} : { onlyTargets: grant.resource }),
    ...(grant.jkt === undefined ? {} : { jkt: grant.jkt }),
  };
}

/**
 * What the IdP allows, as the ceiling of the whole task: its scopes at its resources. The bare name of a resource is all of
 * it, as in a request (IdPs copy what our metadata offers); what is not ours is left out. Null: it names neither.
 */
function ceilingOf(deps: StsDeps, { scope, resource }: VerifiedIdJag): readonly string[] | null {
  if (scope === undefined && resource === undefined) return null;
  const trust = deps.trust();
  const names = resource?.flatMap((identifier) => trust.resourceByIdentifier(identifier)?.name ?? []);
  const scopes = scope?.split(" ") ?? names ?? [];
  return scopes
    .flatMap(partsOf)
    .filter((parts) => names === undefined || names.includes(parts.resource))
    .map((parts) => scopeOf(parts.resource, parts.action ?? EVERY_ACTION));
}

/** None for a scope that can be none of ours: it bounds nothing here. */
function partsOf(scope: string): ScopeParts[] {
  try {
    return [splitScope(scope)];
  } catch (error) {
    if (error instanceof InvalidScopeError) return [];
    throw error;
  }
}

/** RFC 7523 §3.1: what is wrong with the assertion is `invalid_grant`; a workload's client proof beside it keeps its own code. */
function asGrantError(error: unknown): unknown {
  if (error instanceof RefusedToken)
    return new InvalidGrantError({ reason: error.reason, ...error.facts }, { cause: error });
  if (error instanceof InvalidRequestError && error.cause instanceof RefusedToken) {
    return new InvalidGrantError({ reason: error.reason, ...error.facts }, { cause: error });
  }
  return error;
}
