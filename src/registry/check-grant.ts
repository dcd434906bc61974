import { isProxied } from "../core/grants/candidates.ts";
import { compileCondition } from "../core/grants/condition.ts";
import { compileMatchers } from "../core/trust/matcher.ts";
import type { AccessGrant, Approver, DelegationGrant, Grant, Resource } from "../core/trust/model.ts";
import type { TrustProblem } from "../core/trust/problem.ts";
import { openHumanIssuerClaims } from "../core/trust/shared-issuers.ts";
import type { CheckContext } from "./check.ts";

/** What is wrong with a grant among the objects that it names. */
export function checkGrant(grant: Grant, context: CheckContext): TrustProblem[] {
  const common = checkParties(grant, context);
  if (grant.kind === "delegation") return [...common, ...checkDelegation(grant)];
  const resource = context.merged.resources.get(grant.resource);
  return [
    ...common,
    ...checkApprovers(grant, context),
    ...(resource === undefined ? [] : checkAtResource(grant, resource)),
  ];
}

/** At issuers where anybody can sign up, "their humans" is everybody. */
function checkParties(grant: Grant, { merged }: CheckContext): TrustProblem[] {
  return (grant.onBehalfOf ?? []).flatMap((party) => {
    const url = "issuer" in party ? merged.issuers.get(party.issuer)?.url : undefined;
    const needed = url === undefined ? undefined : openHumanIssuerClaims(url);
    if (needed === undefined || !("issuer" in party)) return [];
    const isBound = compileMatchers(party.claims ?? {}).some(
      ({ claim, exact, globs }) => needed.includes(claim) && exact.length > 0 && globs.length === 0,
    );
    return isBound
      ? []
      : [
          {
            path: ["on_behalf_of"],
            what: "means anybody with an account there",
            mend: `bind ${needed.join(" or ")} to exact values`,
          },
        ];
  });
}

function checkDelegation(grant: DelegationGrant): TrustProblem[] {
  return grant.delegateTo.includes(grant.agent)
    ? [{ path: ["delegate_to"], what: "names the agent itself", mend: "take it out; a chain holds an agent once" }]
    : [];
}

/** Who can decide, and can be somebody else than the requester (CONTRACT §8 "Approval"). */
function checkApprovers(grant: AccessGrant, context: CheckContext): TrustProblem[] {
  const { approval } = grant;
  if (approval === undefined) return [];
  const problems: TrustProblem[] = approval.by.flatMap((approver, at) => {
    const path = approval.by.length === 1 ? ["approval", "by"] : ["approval", "by", at];
    const problem = approverProblem(approver, grant, context);
    return problem === undefined ? [] : [{ path, ...problem }];
  });
  // An owner has a stand-in, and a group may grow; who is in it now is a matter of warnings.
  const isOpen = approval.by.some((one) => one === "owner" || (typeof one === "object" && "group" in one));
  const single = new Set(approval.by.map((approver) => JSON.stringify(approver)));
  if (problems.length === 0 && !isOpen && single.size < approval.count) {
    problems.push({
      path: ["approval", "count"],
      what: `can never be reached: only ${single.size} may decide`,
      mend: "name more approvers in by, as a list, or ask for fewer",
    });
  }
  return problems;
}

function approverProblem(
  approver: Approver,
  grant: AccessGrant,
  context: CheckContext,
): Omit<TrustProblem, "path"> | undefined {
  if (approver === "owner") return undefined;
  if (approver === "self") return selfProblem(grant, context);
  if ("group" in approver) return undefined;
  return approver.agent === grant.agent
    ? { what: "names the agent that would ask", mend: "name another agent, or owner; nobody approves what it asks for" }
    : undefined;
}

/** Whoever approves his own call is a human, and signs in at the console to do so. */
function selfProblem(
  { onBehalfOf = [] }: AccessGrant,
  { merged }: CheckContext,
): Omit<TrustProblem, "path"> | undefined {
  const issuers = onBehalfOf.flatMap((party) => ("issuer" in party ? [merged.issuers.get(party.issuer)] : []));
  if (issuers.length === 0) {
    return {
      what: "is self, and the grant is not for calls on behalf of a human",
      mend: "say on_behalf_of: {issuer: NAME}, or name owner, {group: NAME} or {agent: NAME}",
    };
  }
  // One that does not exist is told as such.
  return issuers.every((issuer) => issuer !== undefined && issuer.clientId === undefined)
    ? {
        what: "is self, and its humans cannot sign in here: their issuer has no client_id",
        mend: "register Ephor at the IdP (redirect URI: <issuer>/console/callback) and write client_id there",
      }
    : undefined;
}

/** Only what passes our proxy can wait for somebody. */
function checkApprovalAt(grant: AccessGrant, resource: Resource): TrustProblem[] {
  return grant.approval === undefined || isProxied(resource)
    ? []
    : [
        {
          path: ["approval"],
          what: `is asked for at the call, but calls to ${resource.name} do not pass through Ephor`,
          mend: "take it out, or put the resource behind the proxy",
        },
      ];
}

function checkAtResource(grant: AccessGrant, resource: Resource): TrustProblem[] {
  const problems: TrustProblem[] = [];
  const actions = resource.kind === "mcp" ? undefined : (resource.actions as readonly string[]);
  if (actions !== undefined && !grant.allowAll) {
    for (const [at, action] of grant.actions.entries()) {
      if (actions.includes(action)) continue;
      problems.push({
        path: ["actions", at],
        what: `is no action of ${resource.name}`,
        mend: `choose from ${actions.slice(0, 20).join(", ")}`,
      });
    }
  }
  if (resource.kind === "ephor" && grant.allowAll) {
    problems.push({ path: ["allow_all"], what: "is not allowed at ephor", mend: "name the actions" });
  }
  if (grant.when !== undefined && !isProxied(resource) && compileCondition(grant.when).atCall) {
    problems.push({
      path: ["when"],
      what: `names args or call, but calls to ${resource.name} do not pass through Ephor`,
      mend: "use subject, agent and task, or put the resource behind the proxy",
    });
  }
  return [
    ...problems,
    ...checkApprovalAt(grant, resource),
    ...checkOnce(grant, resource),
    ...checkVending(grant, resource),
  ];
}

/** Where Ephor does not see the use of a token, whoever does must be able to say so (CONTRACT §5 "Once"). */
export function checkOnce(grant: AccessGrant, resource: Resource): TrustProblem[] {
  return grant.once && resource.kind === "verify" && resource.introspection === undefined
    ? [
        {
          path: ["once"],
          what: `needs introspection at ${resource.name}`,
          mend: "give the resource an introspection credential",
        },
      ]
    : [];
}

function checkVending(grant: AccessGrant, resource: Resource): TrustProblem[] {
  if (resource.kind !== "credential") {
    return (["policy", "residual"] as const)
      .filter((key) => grant[key] !== undefined)
      .map((key) => ({ path: [key], what: "is for credential resources", mend: "take it out" }));
  }
  const problems: TrustProblem[] = [];
  if (grant.policy !== undefined) {
    const policies = resource.settings["session_policies"];
    if (typeof policies !== "object" || policies === null || !Object.hasOwn(policies, grant.policy)) {
      problems.push({
        path: ["policy"],
        what: `is no session policy of ${resource.name}`,
        mend: "name one of its session_policies",
      });
    }
  }
  if (resource.provider === "static" && grant.residual !== "unlimited") {
    problems.push({
      path: ["residual"],
      what: "must be unlimited for a stored value, which nobody can take back",
      mend: "say residual: unlimited, or put the upstream behind the proxy",
    });
  }
  return problems;
}
