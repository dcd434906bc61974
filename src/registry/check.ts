import { canonicalTarget } from "../core/oauth/target.ts";
import type { EpochSeconds } from "../core/time.ts";
import { isReservedName } from "../core/trust/ephor-resource.ts";
import { TRUST_LIMITS } from "../core/trust/limits.ts";
import type { Agent, Issuer, Resource } from "../core/trust/model.ts";
import type { TrustProblem } from "../core/trust/problem.ts";
import { checkRule } from "../core/trust/rules.ts";
import type { TrustEntry } from "../core/trust/schema.ts";
import { checkChannelSecrets } from "./check-channel-secrets.ts";
import { checkGrant, checkOnce } from "./check-grant.ts";
import { checkOperator, operatorKeys } from "./check-operator.ts";
import type { Merged } from "./merged.ts";
import type { Change } from "./plan.ts";
import { checkReferences, referencesOf } from "./references.ts";
import type { Named } from "./references.ts";

/**
 * What is wrong with the settings of a `credential` resource. Providers are another room's; it is handed in.
 *
 * @returns problems with paths that start at the resource
 */
export type CheckSettings = (provider: string, settings: Readonly<Record<string, unknown>>) => readonly TrustProblem[];

/**
 * Whether this server may start a program for an `mcp` resource with a `command`. What may be started is a setting of the
 * server; it is handed in.
 *
 * @param program the first of the command
 */
export type CheckProgram = (program: string) => Pick<TrustProblem, "what" | "mend"> | undefined;

/** By what an apply is judged. */
export interface CheckContext {
  readonly merged: Merged;
  readonly issuerUrl: string;
  readonly now: EpochSeconds;
  readonly checkSettings: CheckSettings;
  /** Without it no resource may have a `command`. */
  readonly checkProgram?: CheckProgram | undefined;
}

/**
 * Everything wrong with wanted objects beyond their own shape: what they name, what they share with others, what this
 * version serves. Paths are as in the file.
 */
export function checkEntries(entries: readonly TrustEntry[], context: CheckContext): TrustProblem[] {
  const taken = takenKeys(context.merged);
  return entries.flatMap((entry) => {
    const reserved: TrustProblem[] = isReservedName(entry.kind, entry.name)
      ? [{ path: [], what: "is a name that Ephor keeps for itself", mend: "give it another name" }]
      : [];
    const problems = [
      ...reserved,
      ...checkReferences(entry, context.merged),
      ...checkOne(entry, context, taken),
      ...checkChannelSecrets(entry, context.merged),
    ];
    return problems.map((problem) => ({ ...problem, path: [...entry.path, ...problem.path] }));
  });
}

/**
 * Objects that stay as they are and name something that the plan deletes or turns into something else, and once-only grants at
 * a resource that can no longer tell of a use.
 */
export function checkRemaining(
  entries: readonly TrustEntry[],
  changes: readonly Change[],
  merged: Merged,
): TrustProblem[] {
  const touched = new Set(
    changes.filter((change) => change.op !== "create").map(({ kind, name }) => `${kind}/${name}`),
  );
  if (touched.size === 0) return [];
  const judged = new Set(entries.map(({ kind, name }) => `${kind}/${name}`));
  const problems: TrustProblem[] = [];
  for (const object of everything(merged)) {
    if (judged.has(`${object.kind}/${object.name}`)) continue;
    if (![...referencesOf(object)].some(({ kind, name }) => touched.has(`${kind}/${name}`))) continue;
    for (const problem of checkReferences(object, merged)) {
      problems.push({
        path: [object.kind, object.name, ...problem.path],
        what: `${problem.what} any more`,
        mend: "this object is of another source; change it there first",
      });
    }
    for (const { path, what } of onceProblems(object, merged)) {
      problems.push({
        path: [object.kind, object.name, ...path],
        what,
        mend: "leave the resource its introspection, or change this grant of another source first",
      });
    }
  }
  return problems;
}

function onceProblems({ kind, model }: Named, { resources }: Merged): TrustProblem[] {
  if (kind !== "grants" || model.kind !== "access") return [];
  const resource = resources.get(model.resource);
  return resource === undefined ? [] : checkOnce(model, resource);
}

function* everything(merged: Merged): Generator<Named> {
  for (const [name, model] of merged.issuers) yield { kind: "issuers", name, model };
  for (const [name, model] of merged.agents) yield { kind: "agents", name, model };
  for (const [name, model] of merged.resources) yield { kind: "resources", name, model };
  for (const [name, model] of merged.grants) yield { kind: "grants", name, model };
  for (const [name, model] of merged.operators) yield { kind: "operators", name, model };
  for (const [name, model] of merged.channels) yield { kind: "channels", name, model };
}

/** Who has each issuer URL, each resource identifier and each way in of an operator: the names, in case several do. */
interface Taken {
  readonly issuers: ReadonlyMap<string, readonly string[]>;
  readonly resources: ReadonlyMap<string, readonly string[]>;
  readonly operators: ReadonlyMap<string, readonly string[]>;
}

function takenKeys(merged: Merged): Taken {
  const issuers = new Map<string, string[]>();
  const resources = new Map<string, string[]>();
  const operators = new Map<string, string[]>();
  const add = (map: Map<string, string[]>, key: string, name: string): void => {
    map.set(key, [...(map.get(key) ?? []), name]);
  };
  for (const issuer of merged.issuers.values()) add(issuers, issuerKey(issuer), issuer.name);
  for (const resource of merged.resources.values()) add(resources, canonicalTarget(resource.identifier), resource.name);
  for (const operator of merged.operators.values())
    for (const { key } of operatorKeys(operator)) add(operators, key, operator.name);
  return { issuers, resources, operators };
}

function issuerKey(issuer: Issuer): string {
  return issuer.url ?? issuer.spiffe ?? "";
}

function checkOne(entry: TrustEntry, context: CheckContext, taken: Taken): TrustProblem[] {
  switch (entry.kind) {
    case "issuers":
      return checkIssuer(entry.model, context.issuerUrl, taken);
    case "agents":
      return checkAgent(entry.model, context);
    case "resources":
      return checkResource(entry.model, context, taken);
    case "grants":
      return checkGrant(entry.model, context);
    case "operators":
      return checkOperator(entry.model, taken.operators);
    case "channels":
      return [];
  }
}

function checkIssuer(issuer: Issuer, issuerUrl: string, taken: Taken): TrustProblem[] {
  const at = issuer.url === undefined ? "spiffe" : "url";
  if (issuer.url !== undefined && canonicalTarget(issuer.url) === canonicalTarget(issuerUrl)) {
    return [{ path: [at], what: "is this server itself", mend: "take it out; Ephor knows its own tokens" }];
  }
  const others = (taken.issuers.get(issuerKey(issuer)) ?? []).filter((name) => name !== issuer.name);
  return others.map((name) => ({ path: [at], what: `is the issuer ${name} already`, mend: "keep one of the two" }));
}

function checkAgent(agent: Agent, { merged }: CheckContext): TrustProblem[] {
  return agent.trust.flatMap((rule, at) => {
    const issuer = merged.issuers.get(rule.issuer);
    if (issuer === undefined) return [];
    return checkRule(rule, issuer).map((problem) => ({ ...problem, path: ["trust", at, ...problem.path] }));
  });
}

const NO_PROGRAMS: ReturnType<CheckProgram> = {
  what: "would start a program, which this server does not",
  mend: "give the URL of an HTTP server",
};

function checkResource(resource: Resource, context: CheckContext, taken: Taken): TrustProblem[] {
  const { now, checkSettings, checkProgram = () => NO_PROGRAMS } = context;
  const problems: TrustProblem[] = (taken.resources.get(canonicalTarget(resource.identifier)) ?? [])
    .filter((name) => name !== resource.name)
    .map((name) => ({
      path: ["resource"],
      what: `is the identifier of the resource ${name} too`,
      mend: "give each its own identifier",
    }));
  const command = resource.kind === "mcp" ? commandOf(resource.settings) : undefined;
  const refusal = command && checkProgram(command[0] ?? "");
  if (refusal) problems.push({ path: ["mcp", "command", 0], ...refusal });
  if (resource.kind === "credential") problems.push(...checkSettings(resource.provider, resource.settings));
  const isProxied = resource.kind === "mcp" || resource.kind === "http";
  if (isProxied && resource.mode.observe && resource.mode.until > now + TRUST_LIMITS.observeDays * 86_400) {
    problems.push({
      path: ["mode", "until"],
      what: `is more than ${TRUST_LIMITS.observeDays} days ahead`,
      mend: "name an earlier date; afterwards the resource enforces",
    });
  }
  return problems;
}

function commandOf(settings: Readonly<Record<string, unknown>>): readonly string[] | undefined {
  const { mcp } = settings as { mcp?: string | { command: readonly string[] } };
  return typeof mcp === "object" ? mcp.command : undefined;
}
