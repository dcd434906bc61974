import type { PolicyStatement } from "./aws-statement.ts";

/** Allow statements of one policy whose complement is written out: it has two to the power of them as statements. */
const MAX_COMPLEMENTED = 4;

/**
 * One list of statements that allows exactly what every one of the policies allows. AWS joins the Allows of one policy and
 * takes a single session policy, so of several the Allows of one stay and the others' are turned into denials of all the
 * rest. That has an exact form where a statement allows actions at resources without a condition; of the policies at most
 * one may be of another form.
 *
 * @returns undefined where no exact form is known
 */
export function intersect(policies: readonly (readonly PolicyStatement[])[]): readonly PolicyStatement[] | undefined {
  const distinct = [...new Map(policies.map((statements) => [fingerprint(statements), statements])).values()];
  const complements = new Map(distinct.map((statements) => [statements, complement(statements.filter(isAllow))]));
  const kept = distinct.filter((statements) => complements.get(statements) === undefined);
  if (kept.length > 1) return undefined;
  // Whichever stays need not be complemented: best the one that would take the most characters.
  const base = kept[0] ?? distinct.toSorted((a, b) => b.filter(isAllow).length - a.filter(isAllow).length)[0] ?? [];
  const others = distinct.filter((statements) => statements !== base);
  return [
    ...base,
    ...others.flatMap((statements) => statements.filter((statement) => !isAllow(statement))),
    ...others.flatMap((statements) => complements.get(statements) ?? []),
  ];
}

function isAllow(statement: PolicyStatement): boolean {
  return statement.Effect === "Allow";
}

/**
 * Denials of everything that none of the statements allows. With each statement allowing the actions Aᵢ at the resources Rᵢ,
 * the rest is ⋂ (¬Aᵢ × all ∪ all × ¬Rᵢ): for every way to split the statements in two, the actions that none of the first
 * part has, at the resources that none of the second has.
 */
function complement(allows: readonly PolicyStatement[]): PolicyStatement[] | undefined {
  if (allows.length > MAX_COMPLEMENTED) return undefined;
  const plain: { actions: readonly string[]; resources: readonly string[] }[] = [];
  for (const { Action, Resource, Condition } of allows) {
    const isConditional = Condition !== undefined && Object.keys(Condition).length > 0;
    if (Action === undefined || Resource === undefined || isConditional) return undefined;
    const resources = [Resource].flat();
    // A policy variable without a value matches nothing, and it is not said what NotResource makes of that.
    if (resources.some((resource) => resource.includes("${"))) return undefined;
    plain.push({ actions: [Action].flat(), resources });
  }
  const denials: PolicyStatement[] = [];
  for (let split = 0; split < 2 ** plain.length; split++) {
    const actions = plain.flatMap((allow, i) => ((split >> i) & 1 ? allow.actions : []));
    const resources = plain.flatMap((allow, i) => ((split >> i) & 1 ? [] : allow.resources));
    // Nothing is outside `*`.
    if (actions.includes("*") || resources.includes("*")) continue;
    denials.push({
      Effect: "Deny",
      ...(actions.length === 0 ? { Action: "*" } : { NotAction: [...new Set(actions)] }),
      ...(resources.length === 0 ? { Resource: "*" } : { NotResource: [...new Set(resources)] }),
    });
  }
  return denials;
}

/** The same for two texts of one policy, whatever the order of members, values and statements. */
function fingerprint(statements: readonly PolicyStatement[]): string {
  const texts = statements.map((statement) => JSON.stringify(sorted({ ...statement, Sid: undefined })));
  return JSON.stringify(texts.sort());
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) {
    const list = value.map(sorted);
    return list.length === 1 ? list[0] : list.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, member]) => [name, sorted(member)]),
  );
}
