import { Environment } from "@marcbachmann/cel-js";
import type { ASTNode } from "@marcbachmann/cel-js";
import { compileGlob } from "../trust/glob.ts";
import { analyse } from "./condition-cost.ts";
import type { ConditionShape } from "./condition-cost.ts";
import { CONDITION_LIMITS, measure } from "./condition-limits.ts";

/** What a condition may look at. `args` and `call` are there at a call only. */
export interface ConditionFacts {
  readonly args?: Readonly<Record<string, unknown>>;
  readonly call?: Readonly<Record<string, unknown>>;
  /** The subject's claims at the opening, with our own `type`, `issuer` and `sub` over them. */
  readonly subject: Readonly<Record<string, unknown>>;
  /** The agent that holds the grant, and who stands where: `{name, owner, purpose?, current, path}`. */
  readonly agent: Readonly<Record<string, unknown>>;
  /** `{txn, purpose?, now}`. */
  readonly task: Readonly<Record<string, unknown>>;
}

/** What a condition said. An error is never a yes (CONTRACT §4). */
export type Verdict = "true" | "false" | "error";

/** A condition of a grant, parsed and checked once. */
export interface Condition {
  readonly text: string;
  /** It names `args` or `call`, so only a call can be judged by it. */
  readonly atCall: boolean;
  judge(facts: ConditionFacts): Verdict;
}

/**
 * The language: CEL over five variables, with a closed list of functions (`condition-cost.ts`) and one of our own,
 * `text.like("acme/*")`, which reads patterns as trust rules do. Regular expressions are left out: their cost has no bound.
 *
 * Numbers of arguments and claims are JSON's and so doubles: they compare with whole numbers, but `args.n + 1` needs `1.0`.
 */
const ENVIRONMENT = new Environment({
  limits: {
    maxAstNodes: CONDITION_LIMITS.nodes,
    maxDepth: CONDITION_LIMITS.depth,
    maxListElements: CONDITION_LIMITS.listElements,
    maxMapEntries: CONDITION_LIMITS.listElements,
    maxCallArguments: 4,
  },
})
  .registerVariable("args", "map")
  .registerVariable("call", "map")
  .registerVariable("subject", "map")
  .registerVariable({
    name: "agent",
    schema: { name: "string", owner: "string", purpose: "string", current: "string", path: "list<string>" },
  })
  .registerVariable({ name: "task", schema: { txn: "string", purpose: "string", now: "google.protobuf.Timestamp" } })
  .registerFunction("string.like(string): bool", (text: string, pattern: string) => compileGlob(pattern).matches(text));

/** Why a text is no condition of ours, or undefined. Continues the key's name. */
export function conditionProblem(text: string): string | undefined {
  const read = readCondition(text);
  return "problem" in read ? read.problem : undefined;
}

/**
 * Compiles a condition. One that does not compile, which `apply` never stores, gives an error at every call, so its grant
 * grants nothing.
 */
export function compileCondition(text: string): Condition {
  const read = readCondition(text);
  if ("problem" in read) return { text, atCall: false, judge: () => "error" };
  const { evaluate, shape } = read;
  return {
    text,
    atCall: shape.variables.has("args") || shape.variables.has("call"),
    judge(facts) {
      if (!isAffordable(shape, facts)) return "error";
      try {
        const value: unknown = evaluate({ ...facts });
        return value === true ? "true" : value === false ? "false" : "error";
      } catch {
        return "error";
      }
    },
  };
}

type ReadCondition =
  | { readonly problem: string }
  | { readonly evaluate: (facts: Record<string, unknown>) => unknown; readonly shape: ConditionShape };

function readCondition(text: string): ReadCondition {
  if (text.length > CONDITION_LIMITS.characters)
    return { problem: `is longer than ${CONDITION_LIMITS.characters} characters` };
  let parsed;
  try {
    parsed = ENVIRONMENT.parse(text);
  } catch (error) {
    return { problem: `is no CEL expression: ${summaryOf(error)}` };
  }
  const checked = parsed.check();
  if (!checked.valid) return { problem: `does not type-check: ${summaryOf(checked.error)}` };
  if (checked.type !== "bool" && checked.type !== "dyn") return { problem: `is a ${checked.type}, not true or false` };
  const shape = analyse(parsed.ast as ASTNode);
  if (shape.problem !== undefined) return { problem: shape.problem };
  return { evaluate: parsed, shape };
}

/** The library's own words about the expression; they quote names of the condition, never data. */
function summaryOf(error: unknown): string {
  const summary = (error as { summary?: unknown } | undefined)?.summary;
  return typeof summary === "string" ? summary.slice(0, 200) : "it cannot be read";
}

/** Whether the most steps that the condition could take on these facts stay within the budget. */
function isAffordable(shape: ConditionShape, facts: ConditionFacts): boolean {
  if (shape.degree === 0) return true;
  let size = CONDITION_LIMITS.listElements;
  for (const variable of shape.variables) {
    size += measure((facts as unknown as Record<string, unknown>)[variable], CONDITION_LIMITS.values);
    if (size > CONDITION_LIMITS.values) return false;
  }
  return size ** shape.degree <= CONDITION_LIMITS.steps;
}
