import type { Agent, TrustKind } from "../core/trust/model.ts";
import { TRUST_KINDS } from "../core/trust/schema.ts";
import type { TrustBody, TrustEntry } from "../core/trust/schema.ts";
import type { TrustProblem } from "../core/trust/problem.ts";
import { differences } from "./difference.ts";
import type { Difference } from "./difference.ts";
import type { StoredObject } from "./store.ts";
import type { FileProblem } from "./trust-file.ts";

/** One object that an apply would change. */
export interface Change {
  readonly op: "create" | "update" | "delete";
  readonly kind: TrustKind;
  readonly name: string;
  readonly differences: readonly Difference[];
  /** What to store; none for a delete. */
  readonly body?: TrustBody;
}

/** What an apply would do, without having done anything. */
export interface Plan {
  readonly source: string;
  /** The trust version that it was made for. */
  readonly version: number;
  /** In the order of issuers, agents, resources, grants, operators, channels; within a kind by name. */
  readonly changes: readonly Change[];
  readonly unchanged: number;
  readonly warnings: readonly FileProblem[];
}

/**
 * What would make a source's objects the wanted ones. A source owns what it made and nothing else: what it no longer names
 * is deleted, and a name that another source made is a conflict. The status that an operator gave an agent is not part of
 * the comparison, and is kept.
 *
 * @param stored all objects of this source, and those of other sources whose names are wanted
 * @param mode `whole` for a file; `single` for one object put by itself, which leaves the source's others alone
 */
export function planChanges(
  source: string,
  wanted: readonly TrustEntry[],
  stored: readonly StoredObject[],
  mode: "whole" | "single",
): { readonly changes: readonly Change[]; readonly unchanged: number; readonly conflicts: readonly TrustProblem[] } {
  const before = new Map(stored.map((object) => [keyOf(object), object]));
  const names = new Set(wanted.map(keyOf));
  const changes: Change[] = [];
  const conflicts: TrustProblem[] = [];
  let unchanged = 0;
  for (const entry of wanted) {
    const old = before.get(keyOf(entry));
    if (old !== undefined && old.source !== source) {
      conflicts.push({
        path: entry.path,
        what: `belongs to the source ${old.source}`,
        mend: `change it there, or give this one another name`,
      });
      continue;
    }
    const change = changeTo(entry, old);
    if (change === undefined) unchanged += 1;
    else changes.push(change);
  }
  if (mode === "whole") {
    for (const object of stored) {
      if (object.source === source && !names.has(keyOf(object))) changes.push(deletion(object));
    }
  }
  return { changes: changes.toSorted(byKindAndName), unchanged, conflicts };
}

/** The deletion of one object. */
export function deletion(object: StoredObject): Change {
  return { op: "delete", kind: object.kind, name: object.name, differences: [] };
}

function changeTo(entry: TrustEntry, old: StoredObject | undefined): Change | undefined {
  const { kind, name, body } = entry;
  if (old === undefined) return { op: "create", kind, name, differences: differences(undefined, body), body };
  const { status, ...written } = old.body as TrustBody & { status?: Agent["status"] };
  const found = differences(kind === "agents" ? written : old.body, body);
  if (found.length === 0) return undefined;
  const kept = kind === "agents" && status !== undefined ? { ...body, status } : body;
  return { op: "update", kind, name, differences: found, body: kept };
}

/** Whether removing an object of this kind is a kill of it (CONTRACT §4). A grant just ceases to grant, an operator or a channel to be one. */
export function isKilledByRemoval(kind: TrustKind): kind is "issuers" | "agents" | "resources" {
  return kind === "issuers" || kind === "agents" || kind === "resources";
}

/** A plan as lines that people read; deletes of agents, issuers and resources say that they are kills. */
export function printPlan(plan: Plan): readonly string[] {
  if (plan.changes.length === 0) return [`${plan.source}: nothing changes (${plan.unchanged} objects)`];
  const count = (op: Change["op"]): number => plan.changes.filter((change) => change.op === op).length;
  return [
    ...plan.changes.flatMap(printChange),
    `${plan.source}: ${count("create")} to create, ${count("update")} to update, ${count("delete")} to delete, ${plan.unchanged} unchanged`,
  ];
}

const SIGNS = { create: "+", update: "~", delete: "-" } as const;

function printChange(change: Change): readonly string[] {
  const singular = change.kind.slice(0, -1);
  const kill = change.op === "delete" && isKilledByRemoval(change.kind) ? "  (a kill of it)" : "";
  return [
    `${SIGNS[change.op]} ${singular} ${change.name}${kill}`,
    ...(change.op === "update"
      ? change.differences.map(({ path, before, after }) => `    ${path}: ${before ?? "–"} → ${after ?? "–"}`)
      : []),
  ];
}

function keyOf(object: { readonly kind: TrustKind; readonly name: string }): string {
  return `${object.kind}/${object.name}`;
}

function byKindAndName(a: Change, b: Change): number {
  return TRUST_KINDS.indexOf(a.kind) - TRUST_KINDS.indexOf(b.kind) || (a.name < b.name ? -1 : 1);
}
