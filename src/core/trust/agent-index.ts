import type { Agent, Issuer } from "./model.ts";
import { createRuleIndex } from "./rule-index.ts";
import type { IndexedRule, RuleIndex } from "./rule-index.ts";
import { compileRule } from "./rules.ts";
import type { VerifiedClaims } from "./subject.ts";

/**
 * Agents by name, and by the tokens that they are.
 *
 * @param issuerByName rules are compiled for the issuer they name; one that does not exist yet is waited for
 */
export function createAgents(issuerByName: (name: string) => Issuer | undefined) {
  const names = new Map<string, Agent>();
  /** The rules of each agent that are filed, under the issuers that they name. */
  const rulesOf = new Map<string, readonly IndexedRule[]>();
  const indexes = new Map<string, RuleIndex>();
  /** Agents by the issuers that their rules name, whether those exist yet or not. */
  const byIssuer = new Map<string, Set<string>>();

  const unfile = (agent: string): void => {
    const { trust = [] } = names.get(agent) ?? {};
    for (const rule of rulesOf.get(agent) ?? []) indexes.get(trust[rule.rule]?.issuer ?? "")?.remove(rule);
    rulesOf.delete(agent);
  };
  const file = (agent: Agent): void => {
    const filed: IndexedRule[] = [];
    for (const [at, rule] of agent.trust.entries()) {
      const issuer = issuerByName(rule.issuer);
      if (issuer === undefined) continue;
      const indexed: IndexedRule = { agent: agent.name, rule: at, compiled: compileRule(rule, issuer) };
      let index = indexes.get(issuer.name);
      if (index === undefined) indexes.set(issuer.name, (index = createRuleIndex()));
      index.add(indexed);
      filed.push(indexed);
    }
    rulesOf.set(agent.name, filed);
  };
  const remove = (name: string): void => {
    unfile(name);
    for (const rule of names.get(name)?.trust ?? []) byIssuer.get(rule.issuer)?.delete(name);
    names.delete(name);
  };
  return {
    byName: (name: string) => names.get(name),
    all: () => [...names.values()],
    remove,
    put(agent: Agent) {
      remove(agent.name);
      names.set(agent.name, agent);
      for (const rule of agent.trust) addTo(byIssuer, rule.issuer, agent.name);
      file(agent);
    },
    /** Rules are compiled for their issuer: what counts as a risky event depends on whose tokens they are. */
    issuerChanged(issuer: string) {
      for (const name of byIssuer.get(issuer) ?? []) {
        const agent = names.get(name);
        if (agent === undefined) continue;
        unfile(name);
        file(agent);
      }
    },
    matching(issuer: Issuer, claims: VerifiedClaims) {
      const rules = indexes.get(issuer.name)?.matching(claims) ?? [];
      // Nearly always one, and nothing to be put in order.
      const first = rules.length < 2 ? rules : firstOfEach(rules);
      return first.flatMap(({ agent: name, rule }) => {
        const agent = names.get(name);
        return agent === undefined ? [] : [{ agent, rule }];
      });
    },
  };
}

/** Of each agent the first of its rules, in the order of names. */
function firstOfEach(rules: readonly IndexedRule[]): { agent: string; rule: number }[] {
  const first = new Map<string, number>();
  for (const { agent, rule } of rules) first.set(agent, Math.min(rule, first.get(agent) ?? rule));
  return [...first].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([agent, rule]) => ({ agent, rule }));
}

function addTo(sets: Map<string, Set<string>>, key: string, value: string): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([value]));
  else set.add(value);
}
