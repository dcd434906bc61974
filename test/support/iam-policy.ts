/** A policy of IAM as JSON has it. */
export interface IamPolicy {
  readonly Version?: string;
  readonly Statement: IamStatement | readonly IamStatement[];
}

export interface IamStatement {
  readonly Sid?: string;
  readonly Effect: "Allow" | "Deny";
  readonly Principal?: "*" | Readonly<Record<string, string | readonly string[]>>;
  readonly Action?: string | readonly string[];
  readonly NotAction?: string | readonly string[];
  readonly Resource?: string | readonly string[];
  readonly NotResource?: string | readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** One request as the policy engine sees it. */
export interface IamRequest {
  readonly action: string;
  readonly resource: string;
  /** seconds since the epoch, by AWS's clock: `aws:CurrentTime` */
  readonly at: number;
  /** `{ AWS: arn }` or `{ Federated: arn }`, for trust policies */
  readonly principal?: Readonly<Record<string, string>>;
  /** condition keys beside `aws:CurrentTime` */
  readonly context?: Readonly<Record<string, string>>;
}

/**
 * What one policy says of a request: an explicit denial wins over every allow, and what is not allowed is denied. Written
 * from the IAM User Guide, and independent of the code under test.
 */
export function evaluatePolicy(policy: IamPolicy, request: IamRequest): "allow" | "deny" | "implicit_deny" {
  const matching = [policy.Statement].flat().filter((statement) => matches(statement as IamStatement, request));
  if (matching.some((statement) => (statement as IamStatement).Effect === "Deny")) return "deny";
  return matching.length > 0 ? "allow" : "implicit_deny";
}

function matches(statement: IamStatement, request: IamRequest): boolean {
  const { Action, NotAction, Resource, NotResource, Condition, Principal } = statement;
  if ((Action === undefined) === (NotAction === undefined)) throw new Error("MalformedPolicyDocument: actions");
  // Actions are compared without case, resources with it.
  const action = request.action.toLowerCase();
  const has = (patterns: string | readonly string[], text: string, lower: boolean): boolean =>
    [patterns].flat().some((pattern) => like(lower ? pattern.toLowerCase() : pattern, text));
  if (Action !== undefined && !has(Action, action, true)) return false;
  if (NotAction !== undefined && has(NotAction, action, true)) return false;
  if (Resource !== undefined && !has(Resource, request.resource, false)) return false;
  if (NotResource !== undefined && has(NotResource, request.resource, false)) return false;
  if (Principal !== undefined && !principalMatches(Principal, request.principal ?? {})) return false;
  const context: Readonly<Record<string, string>> = {
    "aws:CurrentTime": new Date(request.at * 1000).toISOString(),
    ...request.context,
  };
  return Object.entries(Condition ?? {}).every(([operator, keys]) =>
    Object.entries(keys).every(([key, wanted]) => conditionHolds(operator, context[key], [wanted].flat().map(String))),
  );
}

function principalMatches(
  wanted: NonNullable<IamStatement["Principal"]>,
  principal: Readonly<Record<string, string>>,
): boolean {
  if (wanted === "*") return true;
  return Object.entries(wanted).some(([kind, names]) => [names].flat().includes(principal[kind] ?? ""));
}

function conditionHolds(operator: string, value: string | undefined, wanted: readonly string[]): boolean {
  const name = operator.replace(/IfExists$/, "");
  // A key that is not there: false, or true by IfExists and for the negated operators.
  if (value === undefined) return name !== operator || /Not/.test(name);
  const compare = OPERATORS[name.replace("Not", "")];
  if (compare === undefined) throw new Error(`MalformedPolicyDocument: ${operator}`);
  const isAny = wanted.some((text) => compare(value, text));
  return name.includes("Not") ? !isAny : isAny;
}

const OPERATORS: Readonly<Record<string, (value: string, wanted: string) => boolean>> = {
  StringEquals: (value, wanted) => value === wanted,
  StringEqualsIgnoreCase: (value, wanted) => value.toLowerCase() === wanted.toLowerCase(),
  StringLike: (value, wanted) => like(wanted, value),
  ArnLike: (value, wanted) => like(wanted, value),
  Bool: (value, wanted) => value === wanted,
  DateEquals: (value, wanted) => time(value) === time(wanted),
  DateLessThan: (value, wanted) => time(value) < time(wanted),
  DateLessThanEquals: (value, wanted) => time(value) <= time(wanted),
  DateGreaterThan: (value, wanted) => time(value) > time(wanted),
  DateGreaterThanEquals: (value, wanted) => time(value) >= time(wanted),
};

function time(text: string): number {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$/.test(text)) throw new Error("MalformedPolicyDocument: date");
  return Date.parse(text);
}

/** `*` is any text, `?` one character. Policy variables are not known here. */
function like(pattern: string, text: string): boolean {
  if (pattern.includes("${")) throw new Error("this evaluator knows no policy variables");
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`)
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${source}$`, "s").test(text);
}
