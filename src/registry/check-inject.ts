import type { Resource } from "../core/trust/model.ts";
import type { TrustProblem } from "../core/trust/problem.ts";

/** A proxied resource's use of what a credential resource makes. */
export interface InjectedUse {
  readonly kind: "aws" | "oauth";
  readonly resource: string;
  readonly policy?: string;
}

/** @returns undefined for a resource whose credential is made of secrets, or that has none */
export function injectedUseOf(resource: Resource): InjectedUse | undefined {
  if (resource.kind !== "http" && resource.kind !== "mcp") return undefined;
  const { inject = {} } = resource.settings as { inject?: { aws?: string; oauth?: string; policy?: string } };
  const { policy } = inject;
  for (const kind of ["aws", "oauth"] as const) {
    const name = inject[kind];
    if (name !== undefined) return { kind, resource: name, ...(policy !== undefined && { policy }) };
  }
  return undefined;
}

/** Whether the named resource makes what is to be injected. Paths start at the resource that names it. */
export function checkMaker({ kind, policy }: InjectedUse, maker: Resource): TrustProblem[] {
  if (maker.kind !== "credential" || maker.provider !== kind)
    return [
      {
        path: ["inject", kind],
        what: `names ${maker.name}, which is no credential resource of kind ${kind}`,
        mend: `name one with credential: {${kind}: …}`,
      },
    ];
  const { grant, refresh_secret: refresh, session_policies: policies } = maker.settings;
  // One person's consent, whoever the call is for: nobody may act as somebody else (CONTRACT §8).
  if (kind === "oauth" && grant === "refresh_token" && !String(refresh).includes("{user}"))
    return [
      {
        path: ["inject", kind],
        what: `names ${maker.name}, whose refresh token is one person's for everybody`,
        mend: "give each person their own there: refresh_secret: NAME-{user}",
      },
    ];
  const isKnown = policy === undefined || (typeof policies === "object" && policies && Object.hasOwn(policies, policy));
  return isKnown
    ? []
    : [
        {
          path: ["inject", "policy"],
          what: `is no session policy of ${maker.name}`,
          mend: "name one of its session_policies, or take it out",
        },
      ];
}
