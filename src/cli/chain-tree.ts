import type { Chain, ChainNode } from "../api/chains.ts";
import { shownInstant } from "./moments.ts";
import { printable } from "./printable.ts";

/** Most tokens, and most leases, shown under one node; a task of hours has thousands. */
const MAX_TOKENS = 20;

/** A task as a tree of agents and their tokens, for a terminal. */
export function chainTree(chain: Chain): string[] {
  const purpose = chain.purpose === undefined ? "" : `  "${printable(chain.purpose)}"`;
  return [
    `${chain.txn}  ${chain.status}${purpose}`,
    `on behalf of ${printable(chain.sub)}, until ${shownInstant(chain.deadline)}${chain.kill_ids.length > 0 ? `, killed by ${chain.kill_ids.map(printable).join(" ")}` : ""}`,
    ...branch(nodeEntry(chain.root), "", "last"),
  ];
}

interface Entry {
  readonly text: string;
  readonly below: readonly Entry[];
}

function nodeEntry(node: ChainNode): Entry {
  const ceiling = node.scopes === null ? "" : `  may ${node.scopes.map(printable).join(" ")}`;
  const hidden = node.tokens.length - MAX_TOKENS;
  return {
    text: `${printable(node.agent)}  ${node.status}${ceiling}`,
    below: [
      ...(hidden > 0 ? [{ text: `… ${hidden} earlier tokens (--json shows them)`, below: [] }] : []),
      ...node.tokens.slice(-MAX_TOKENS).map((token) => ({
        text: `${token.kind === "hand_over" ? "hand-over" : "token"} ${token.jti}  ${token.status}  ${printable(token.aud)}  ${token.scopes.map(printable).join(" ")}`,
        below: [],
      })),
      ...leaseEntries(node.leases),
      ...node.children.map(nodeEntry),
    ],
  };
}

function leaseEntries(leases: ChainNode["leases"]): Entry[] {
  const hidden = leases.length - MAX_TOKENS;
  return [
    ...(hidden > 0 ? [{ text: `… ${hidden} earlier credentials (--json shows them)`, below: [] }] : []),
    ...leases.slice(-MAX_TOKENS).map((lease) => ({
      text: `credential ${printable(lease.lease)}  ${lease.status}  ${printable(lease.resource)}  ${lease.ended_at === undefined ? `until ${shownInstant(lease.ends_at)}` : `ended ${shownInstant(lease.ended_at)}`}`,
      below: [],
    })),
  ];
}

function branch(entry: Entry, indent: string, place: "middle" | "last"): string[] {
  const below = indent + (place === "last" ? "   " : "│  ");
  return [
    `${indent}${place === "last" ? "└─ " : "├─ "}${entry.text}`,
    ...entry.below.flatMap((child, at) => branch(child, below, at === entry.below.length - 1 ? "last" : "middle")),
  ];
}
