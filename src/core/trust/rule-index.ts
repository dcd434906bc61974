import { readClaim } from "./matcher.ts";
import type { Scalar } from "./matcher.ts";
import type { CompiledRule } from "./rules.ts";
import type { VerifiedClaims } from "./subject.ts";

/** One rule of one agent. */
export interface IndexedRule {
  readonly agent: string;
  /** Place of the rule in the agent's list. */
  readonly rule: number;
  readonly compiled: CompiledRule;
}

/** The rules of one issuer, found by the claims of a token. */
export interface RuleIndex {
  add(rule: IndexedRule): void;
  remove(rule: IndexedRule): void;
  /** Every rule that the claims fit, in no order. */
  matching(claims: VerifiedClaims): IndexedRule[];
}

/**
 * Files every rule under one of its claims: an exact value (a list: under each), or the literal beginning or end of a
 * pattern. A token is looked up by the values of its own claims, so the cost follows the number of different claim names
 * and pattern lengths in use, never the number of agents. Among its claims a rule is filed where the drawer is emptiest:
 * a thousand agents of one repository end up under their environments.
 *
 * A rule that offers nothing to look it up by, which `checkRule` refuses, is never found, and so never matches.
 */
export function createRuleIndex(): RuleIndex {
  const claims = new Map<string, ClaimDrawers>();

  const drawerAt = (place: Place): Drawer => {
    let drawers = claims.get(place.claim);
    if (drawers === undefined) {
      drawers = { exact: new Map(), prefix: new Map(), suffix: new Map() };
      claims.set(place.claim, drawers);
    }
    if (place.by === "exact") return drawers.exact;
    const byLength = drawers[place.by];
    const { length } = String(place.key);
    let drawer = byLength.get(length);
    if (drawer === undefined) {
      drawer = new Map();
      byLength.set(length, drawer);
    }
    return drawer;
  };

  return {
    add(rule) {
      const fill = (places: readonly Place[]): number =>
        places.reduce((most, place) => Math.max(most, sizeOf(drawerAt(place).get(place.key))), 0);
      const best = waysToFile(rule.compiled)
        .map((places) => ({ places, fill: fill(places) }))
        .reduce<{ places: readonly Place[]; fill: number } | undefined>(
          (a, b) => (a !== undefined && a.fill <= b.fill ? a : b),
          undefined,
        );
      if (best === undefined) return;
      for (const place of best.places) {
        const drawer = drawerAt(place);
        const rules = drawer.get(place.key);
        if (rules === undefined) drawer.set(place.key, rule);
        else if (rules instanceof Set) rules.add(rule);
        else drawer.set(place.key, new Set([rules, rule]));
      }
    },
    remove(rule) {
      // Where it was filed is not remembered for a million rules: it is taken from wherever it could be.
      for (const place of waysToFile(rule.compiled).flat()) {
        const drawer = drawerAt(place);
        const rules = drawer.get(place.key);
        if (rules instanceof Set) rules.delete(rule);
        if (rules === rule || (rules instanceof Set && rules.size === 0)) drawer.delete(place.key);
        if (drawer.size === 0 && place.by !== "exact")
          claims.get(place.claim)?.[place.by].delete(String(place.key).length);
      }
    },
    matching(token) {
      const found = new Set<IndexedRule>();
      for (const [claim, drawers] of claims) {
        const value = readClaim(token, claim);
        if (!isScalar(value)) continue;
        eachDrawer(drawers, value, (rules) => {
          for (const rule of rules instanceof Set ? rules : [rules])
            if (!found.has(rule) && rule.compiled.matches(token)) found.add(rule);
        });
      }
      return [...found];
    },
  };
}

/** Nearly every rule is alone under its value, and a set for each would be a third of the index. */
type Rules = IndexedRule | Set<IndexedRule>;
/** By the value itself: `1` and `"1"` are different values and lie apart. */
type Drawer = Map<Scalar, Rules>;

interface ClaimDrawers {
  readonly exact: Drawer;
  /** By the length of the literal text, then by the text. */
  readonly prefix: Map<number, Drawer>;
  readonly suffix: Map<number, Drawer>;
}

function sizeOf(rules: Rules | undefined): number {
  if (rules === undefined) return 0;
  return rules instanceof Set ? rules.size : 1;
}

interface Place {
  readonly claim: string;
  readonly by: "exact" | "prefix" | "suffix";
  readonly key: Scalar;
}

/** For each claim of the rule that can be looked up, the places it would have to be filed at; exact ones first. */
function waysToFile(rule: CompiledRule): (readonly Place[])[] {
  const ways = rule.matchers
    .filter((matcher) => !matcher.absent && matcher.globs.every((glob) => glob.prefix !== "" || glob.suffix !== ""))
    .map((matcher): readonly Place[] => [
      ...matcher.exact.map((value): Place => ({ claim: matcher.claim, by: "exact", key: value })),
      ...matcher.globs.map((glob): Place =>
        glob.prefix === ""
          ? { claim: matcher.claim, by: "suffix", key: glob.suffix }
          : { claim: matcher.claim, by: "prefix", key: glob.prefix },
      ),
    ]);
  const isExact = (places: readonly Place[]): boolean => places.every((place) => place.by === "exact");
  return [...ways.filter(isExact), ...ways.filter((places) => !isExact(places))];
}

function eachDrawer(drawers: ClaimDrawers, value: Scalar, see: (rules: Rules) => void): void {
  const exact = drawers.exact.get(value);
  if (exact !== undefined) see(exact);
  if (typeof value !== "string") return;
  for (const [length, byText] of drawers.prefix) {
    const rules = length <= value.length ? byText.get(value.slice(0, length)) : undefined;
    if (rules !== undefined) see(rules);
  }
  for (const [length, byText] of drawers.suffix) {
    const rules = length <= value.length ? byText.get(value.slice(value.length - length)) : undefined;
    if (rules !== undefined) see(rules);
  }
}

function isScalar(value: unknown): value is Scalar {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean";
}
