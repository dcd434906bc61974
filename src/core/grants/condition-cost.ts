import type { ASTNode } from "@marcbachmann/cel-js";
import { CONDITION_LIMITS } from "./condition-limits.ts";

/** What a condition looks at and how its cost grows with it. */
export interface ConditionShape {
  /** Which of our variables it names. */
  readonly variables: ReadonlySet<string>;
  /** Its steps are bounded by the size of what it looks at to this power. */
  readonly degree: number;
  /** Why it cannot be allowed, or undefined. */
  readonly problem: string | undefined;
}

const VARIABLES = new Set(["args", "call", "subject", "agent", "task"]);

/** Walks over a list or a mapping; their first argument names each element. */
const WALKS = new Set(["all", "exists", "exists_one", "map", "filter"]);

/** Everything else that may be called. What is not here (`matches`, `split`, `bytes`, `cel.bind`, …) has no bound we can tell. */
const FUNCTIONS = new Set([
  "has",
  "size",
  "startsWith",
  "endsWith",
  "contains",
  "like",
  "lowerAscii",
  "upperAscii",
  "trim",
  "indexOf",
  "lastIndexOf",
  "substring",
  "int",
  "double",
  "string",
  "bool",
  "dyn",
  "type",
  "timestamp",
  "duration",
  "getFullYear",
  "getMonth",
  "getDate",
  "getDayOfMonth",
  "getDayOfWeek",
  "getDayOfYear",
  "getHours",
  "getMinutes",
  "getSeconds",
  "getMilliseconds",
]);

/** Reads a checked syntax tree. */
export function analyse(ast: ASTNode): ConditionShape {
  const seen = { variables: new Set<string>(), additions: 0, problem: undefined as string | undefined };
  const degree = degreeOf(ast, seen);
  if (seen.problem === undefined && degree > CONDITION_LIMITS.degree)
    seen.problem = "walks over lists within lists within lists";
  if (seen.problem === undefined && seen.additions > CONDITION_LIMITS.additions) {
    seen.problem = `has more than ${CONDITION_LIMITS.additions} additions`;
  }
  return { variables: seen.variables, degree, problem: seen.problem };
}

interface Seen {
  readonly variables: Set<string>;
  additions: number;
  problem: string | undefined;
}

function degreeOf(node: ASTNode, seen: Seen): number {
  switch (node.op) {
    case "value":
      return 0;
    case "id":
      if (VARIABLES.has(node.args)) seen.variables.add(node.args);
      return 0;
    case ".":
    case ".?":
      return degreeOf(node.args[0], seen);
    case "call":
      return degreeOfCall({ name: node.args[0], receiver: undefined, args: node.args[1] }, seen);
    case "rcall":
      return degreeOfCall({ name: node.args[0], receiver: node.args[1], args: node.args[2] }, seen);
    case "map":
      return most(node.args.flat(), seen);
    case "list":
    case "?:":
    case "||":
    case "&&":
    case "[]":
    case "[?]":
      return most(node.args, seen);
    case "!_":
    case "-_":
      return degreeOf(node.args, seen);
    default:
      return degreeOfBinary(node, seen);
  }
}

type BinaryNode = Exclude<
  ASTNode,
  {
    op:
      | "value"
      | "id"
      | "call"
      | "rcall"
      | "."
      | ".?"
      | "[]"
      | "[?]"
      | "list"
      | "map"
      | "?:"
      | "||"
      | "&&"
      | "!_"
      | "-_";
  }
>;

/** `in`, `==`, `!=` and `+` may look at every element of a list, unless one side is written out as a single value. */
function degreeOfBinary(node: BinaryNode, seen: Seen): number {
  if (node.op === "+") seen.additions += 1;
  const inner = most(node.args, seen);
  const isSingle = node.args.some((side) => side.op === "value");
  const looksAtAll = node.op === "in" || ((node.op === "==" || node.op === "!=" || node.op === "+") && !isSingle);
  return looksAtAll ? Math.max(inner, 1) : inner;
}

function degreeOfCall(
  call: { name: string; receiver: ASTNode | undefined; args: readonly ASTNode[] },
  seen: Seen,
): number {
  const { name, receiver, args } = call;
  const outer = receiver === undefined ? 0 : degreeOf(receiver, seen);
  if (receiver !== undefined && WALKS.has(name)) {
    const variable = args[0];
    // An element named like one of our variables would hide it from the question whether the condition needs the call.
    if (variable?.op === "id" && VARIABLES.has(variable.args))
      seen.problem ??= `names an element \`${variable.args}\`, which is taken`;
    return Math.max(outer, 1 + most(args.slice(1), seen));
  }
  if (!FUNCTIONS.has(name)) {
    const hint = name === "matches" ? "; use like, startsWith, endsWith or contains" : "";
    seen.problem ??= `calls ${name}, which is not served in conditions${hint}`;
  }
  return Math.max(outer, most(args, seen));
}

function most(nodes: readonly ASTNode[], seen: Seen): number {
  return nodes.reduce((degree, node) => Math.max(degree, degreeOf(node, seen)), 0);
}
