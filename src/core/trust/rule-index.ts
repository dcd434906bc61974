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
  const filed = new Map<IndexedRule, readonly Place[]>();

  const drawerAt = (place: Place): Map<string, Set<IndexedRule>> => {
    let drawers = claims.get(place.claim);
    if (drawers === undefined) {
      drawers = { exact: new Map(), prefix: new Map(), suffix: new Map() };
      claims.set(place.claim, drawers);
    }
    if (place.by === "exact") return drawers.exact;
    const byLength = drawers[place.by];
    let drawer = byLength.get(place.key.length);
    if (drawer === undefined) {
      drawer = new Map();
      byLength.set(place.key.length, drawer);
    }
    return drawer;
  };

  return {
    add(rule) {
      const fill = (places: readonly Place[]): number =>
        places.reduce((most, place) => Math.max(most, drawerAt(place).get(place.key)?.size ?? 0), 0);
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
        if (rules === undefined) drawer.set(place.key, new Set([rule]));
        else rules.add(rule);
      }
      filed.set(rule, best.places);
    },
    remove(rule) {
      for (const place of filed.get(rule) ?? []) {
        const drawer = drawerAt(place);
        const rules = drawer.get(place.key);
        rules?.delete(rule);
        if (rules?.size === 0) drawer.delete(place.key);
        if (drawer.size === 0 && place.by !== "exact") claims.get(place.claim)?.[place.by].delete(place.key.length);
      }
      filed.delete(rule);
    },
    matching(token) {
      const found = new Set<IndexedRule>();
      for (const [claim, drawers] of claims) {
        const value = readClaim(token, claim);
        if (!isScalar(value)) continue;
        eachDrawer(drawers, value, (rules) => {
          for (const rule of rules) if (!found.has(rule) && rule.compiled.matches(token)) found.add(rule);
        });
      }
      return [...found];
    },
  };
}

interface ClaimDrawers {
  readonly exact: Map<string, Set<IndexedRule>>;
  /** By the length of the literal text, then by the text. */
  readonly prefix: Map<number, Map<string, Set<IndexedRule>>>;
  readonly suffix: Map<number, Map<string, Set<IndexedRule>>>;
}

interface Place {
  readonly claim: string;
  readonly by: "exact" | "prefix" | "suffix";
  readonly key: string;
}

/** For each claim of the rule that can be looked up, the places it would have to be filed at; exact ones first. */
function waysToFile(rule: CompiledRule): (readonly Place[])[] {
  const ways = rule.matchers
    .filter((matcher) => !matcher.absent && matcher.globs.every((glob) => glob.prefix !== "" || glob.suffix !== ""))
    .map((matcher): readonly Place[] => [
      ...matcher.exact.map((value): Place => ({ claim: matcher.claim, by: "exact", key: keyOf(value) })),
      ...matcher.globs.map((glob): Place =>
        glob.prefix === ""
          ? { claim: matcher.claim, by: "suffix", key: glob.suffix }
          : { claim: matcher.claim, by: "prefix", key: glob.prefix },
      ),
    ]);
  const isExact = (places: readonly Place[]): boolean => places.every((place) => place.by === "exact");
  return [...ways.filter(isExact), ...ways.filter((places) => !isExact(places))];
}

function eachDrawer(drawers: ClaimDrawers, value: Scalar, see: (rules: ReadonlySet<IndexedRule>) => void): void {
  const exact = drawers.exact.get(keyOf(value));
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

/** `1` and `"1"` are different values and lie in different drawers. */
function keyOf(value: Scalar): string {
  return `${typeof value}:${String(value)}`;
}

function isScalar(value: unknown): value is Scalar {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean";
}
