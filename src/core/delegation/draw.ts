/** A token as it is drawn. */
export interface DrawnToken {
  readonly jti: string;
  readonly kind: "access" | "hand_over" | "txn_token";
  readonly aud: string;
  readonly scopes: readonly string[];
  readonly exp: number;
  readonly status: string;
}

/** A refusal as it is drawn. */
export interface DrawnRefusal {
  readonly at: number;
  readonly agent?: string | undefined;
  readonly reason: string;
  readonly resource?: string | undefined;
}

/** A node as it is drawn. */
export interface DrawnNode {
  readonly agent: string;
  readonly status: string;
  readonly scopes: readonly string[] | null;
  readonly tokens: readonly DrawnToken[];
  readonly refusals?: readonly DrawnRefusal[] | undefined;
  readonly children: readonly DrawnNode[];
}

/** The chain of a task as `GET /v1/chains/{txn}` answers it; only what is drawn of it. */
export interface DrawnChain {
  readonly txn: string;
  readonly sub: string;
  readonly email?: string | undefined;
  readonly purpose?: string | undefined;
  readonly status: string;
  readonly deadline: number;
  readonly ended_at?: number | undefined;
  readonly kill_ids: readonly string[];
  readonly root: DrawnNode;
  readonly refusals?: readonly DrawnRefusal[] | undefined;
  readonly truncated?: boolean | undefined;
}

/** Tokens drawn at a node, the newest: a long task has thousands, and a picture is for looking at. */
const DEFAULT_TOKENS = 8;
/** Scopes written out on a line. */
const MAX_SCOPES = 4;

/** Something with what hangs below it. */
interface Branch {
  readonly line: string;
  readonly below: readonly Branch[];
}

/**
 * Draws a chain as lines of text: the task, then its agents as a tree, under each its tokens, its refusals and the agents it
 * handed work to. Whatever came from outside is drawn as data: control characters are escaped, so one line stays one line
 * and no terminal acts on it (A-AUD-05).
 *
 * @param options.maxTokens tokens drawn at each node, the newest; default 8
 */
export function drawChain(chain: DrawnChain, options: { maxTokens?: number } = {}): string[] {
  const maxTokens = options.maxTokens ?? DEFAULT_TOKENS;
  const whose = chain.email === undefined ? visible(chain.sub) : `${visible(chain.sub)} (${visible(chain.email)})`;
  const purpose = chain.purpose === undefined ? "" : `, "${visible(chain.purpose)}"`;
  const root = branchOf(chain.root, maxTokens);
  const strangers = (chain.refusals ?? []).map((refusal) =>
    leaf(`${visible(refusal.agent ?? "somebody")}: ${refusalLine(refusal)}`),
  );
  return [
    `task ${visible(chain.txn)}  ${chain.status}${lifeOf(chain)}`,
    `for ${whose}${purpose}`,
    ...(chain.kill_ids.length > 0 ? [`killed by ${chain.kill_ids.map(visible).join(", ")}`] : []),
    root.line,
    ...drawn(root.below, ""),
    ...(strangers.length > 0 ? ["refused to others", ...drawn(strangers, "")] : []),
    ...(chain.truncated === true ? ["(older events are left out: see the ledger)"] : []),
  ];
}

/**
 * Text from outside, as it may be shown on a terminal: control characters, marks that turn the direction of text and lone
 * surrogates become `\uXXXX`.
 */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) =>
    [...Array(character.length).keys()]
      .map((index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

function branchOf(node: DrawnNode, maxTokens: number): Branch {
  const ceiling = node.scopes === null ? "" : `  at most ${scopesText(node.scopes)}`;
  const left = node.tokens.length - maxTokens;
  return {
    line: `${visible(node.agent)}  ${node.status}${ceiling}`,
    below: [
      ...(left > 0 ? [leaf(`(${left} older tokens)`)] : []),
      ...node.tokens.slice(Math.max(0, left)).map((token) => leaf(tokenLine(token))),
      ...(node.refusals ?? []).map((refusal) => leaf(refusalLine(refusal))),
      ...node.children.map((child) => branchOf(child, maxTokens)),
    ],
  };
}

const KIND = { access: "token", hand_over: "hand-over", txn_token: "txn-token" } as const;

function tokenLine(token: DrawnToken): string {
  const until = token.status === "live" ? `live until ${timeOf(token.exp)}` : token.status;
  return `${KIND[token.kind]} ${visible(token.jti)}  ${scopesText(token.scopes)} at ${visible(token.aud)}  ${until}`;
}

function refusalLine(refusal: DrawnRefusal): string {
  const where = refusal.resource === undefined ? "" : ` at ${visible(refusal.resource)}`;
  return `refused${where}: ${visible(refusal.reason)}  ${timeOf(refusal.at)}`;
}

function scopesText(scopes: readonly string[]): string {
  const shown = scopes.slice(0, MAX_SCOPES).map(visible).join(" ");
  return scopes.length > MAX_SCOPES ? `${shown} (+${scopes.length - MAX_SCOPES})` : shown || "nothing";
}

function lifeOf(chain: DrawnChain): string {
  if (chain.ended_at !== undefined) return ` at ${timeOf(chain.ended_at)}`;
  return chain.status === "open" ? ` until ${timeOf(chain.deadline)}` : "";
}

function timeOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}

function leaf(line: string): Branch {
  return { line, below: [] };
}

function drawn(branches: readonly Branch[], indent: string): string[] {
  return branches.flatMap((branch, index) => {
    const isLast = index === branches.length - 1;
    return [
      `${indent}${isLast ? "└─" : "├─"} ${branch.line}`,
      ...drawn(branch.below, `${indent}${isLast ? "  " : "│ "} `),
    ];
  });
}
