import { compileMatchers, matchClaims } from "./matcher.ts";
import type { CompiledMatcher } from "./matcher.ts";
import type { Operator } from "./model.ts";
import { humanSub } from "./person.ts";
import type { Person } from "./person.ts";

/** The humans that an operator is, as `sub` has them in our tokens. */
export function subsOf({ signIns }: Operator): string[] {
  return signIns.map(({ issuer, claims }) => humanSub(issuer, String(claims["sub"])));
}

/** Whether an operator answers for agents with this owner: by address, or by name. Compared exactly. */
export function isOwner({ name, email }: Operator, owner: string): boolean {
  return owner === name || (email !== undefined && owner === email);
}

interface Way {
  readonly operator: string;
  readonly matchers: readonly CompiledMatcher[];
}

/** Operators by name and by each way in which they come. */
export function createOperatorIndex() {
  const names = new Map<string, Operator>();
  const bySub = new Map<string, readonly Way[]>();
  const byChat = new Map<string, ReadonlySet<string>>();

  const remove = (name: string): void => {
    const old = names.get(name);
    if (old === undefined) return;
    names.delete(name);
    for (const sub of subsOf(old)) {
      const left = (bySub.get(sub) ?? []).filter((way) => way.operator !== name);
      if (left.length === 0) bySub.delete(sub);
      else bySub.set(sub, left);
    }
    for (const key of chatKeys(old)) {
      const left = new Set(byChat.get(key));
      left.delete(name);
      if (left.size === 0) byChat.delete(key);
      else byChat.set(key, left);
    }
  };
  // Of two that claim one person or account nobody can say which it is, so it is neither. Apply lets no second one in.
  const only = (found: readonly string[]): Operator | undefined =>
    found.length === 1 ? names.get(found[0] ?? "") : undefined;

  return {
    byName: (name: string) => names.get(name),
    bySlack: (team: string, user: string) => only([...(byChat.get(slackKey(team, user)) ?? [])]),
    byTeams: (tenant: string, user: string) => only([...(byChat.get(teamsKey(tenant, user)) ?? [])]),
    of({ sub, claims }: Pick<Person, "sub" | "claims">): Operator | undefined {
      return only(
        (bySub.get(sub) ?? [])
          .filter(({ matchers }) => matchClaims(matchers, claims, "strict"))
          .map(({ operator }) => operator),
      );
    },
    all: () => [...names.values()],
    remove,
    put(operator: Operator) {
      remove(operator.name);
      names.set(operator.name, operator);
      for (const { issuer, claims } of operator.signIns) {
        const sub = humanSub(issuer, String(claims["sub"]));
        bySub.set(sub, [...(bySub.get(sub) ?? []), { operator: operator.name, matchers: compileMatchers(claims) }]);
      }
      for (const key of chatKeys(operator)) byChat.set(key, new Set(byChat.get(key)).add(operator.name));
    },
  };
}

function chatKeys({ slack, teams }: Operator): string[] {
  return [
    ...(slack === undefined ? [] : [slackKey(slack.team, slack.user)]),
    ...(teams === undefined ? [] : [teamsKey(teams.tenant, teams.user)]),
  ];
}

// A blank is in no id, so two pairs never share a key.
const slackKey = (team: string, user: string): string => `slack ${team} ${user}`;
const teamsKey = (tenant: string, user: string): string => `teams ${tenant} ${user}`;
