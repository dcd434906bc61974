import type { ApprovalView } from "../api/approvals.ts";
import { printable, printableJson } from "../core/printable.ts";

/** What is told of an approval, for people: every text of a stranger made visible. */
export interface Question {
  readonly id: string;
  /** Where the whole of it is. */
  readonly uri: string;
  readonly title: string;
  /** Names and values, one line each. */
  readonly facts: readonly (readonly [name: string, value: string])[];
  /** JSON of what would be called, and with what; cut. */
  readonly call: string;
  readonly arguments: string;
  /** Something above was cut: the whole is at `uri`. */
  readonly isCut: boolean;
  readonly decisions: readonly string[];
  /** It waits for somebody. */
  readonly isOpen: boolean;
  readonly expiresAt: string;
}

/** Characters of the parts; a message of Slack holds 3,000 in one block, a card of Teams 28 KB in all. */
const LIMITS = { fact: 300, call: 1_000, arguments: 2_500, reason: 300, decisions: 10 } as const;

const TITLES: Readonly<Record<ApprovalView["status"], string>> = {
  pending: "Approval needed",
  approved: "Approved, not used yet",
  denied: "Denied",
  used: "Approved and used",
  expired: "Expired, nobody decided in time or it was not used",
  void: "Void: ended, killed or changed since it was asked for",
};

/** Makes one of an approval as it stands. */
export function questionOf(of: ApprovalView): Question {
  const cut = cutter();
  const needed = Math.max(...of.needs.map(({ count }) => count), 1);
  const facts: [string, string][] = [
    ["Agent", of.agent],
    ["Owner", of.owner ?? "nobody"],
    ["On behalf of", of.sub],
    ["Chain", of.path.join(" > ")],
    ["Resource", of.resource],
    ["Action", of.action],
    ...(of.purpose === undefined ? [] : [["Purpose, as the agent says", of.purpose] as [string, string]]),
    ["Until", of.expires_at],
    ["Who decides", of.needs.map(({ by, count }) => `${by.map(approverText).join(" or ")}${times(count)}`).join("; ")],
    ...(needed > 1 ? [["Approvals", `${of.decisions.length} of ${needed}`] as [string, string]] : []),
  ];
  return {
    id: of.id,
    uri: of.uri,
    title: `${TITLES[of.status]}: ${of.agent}, ${of.resource} ${cut(printable(of.action), LIMITS.fact)}`,
    facts: facts.map(([name, value]) => [name, cut(printable(value), LIMITS.fact)] as const),
    call: cut(printableJson(JSON.stringify(of.call, null, 1)), LIMITS.call),
    arguments: cut(printableJson(JSON.stringify(of.arguments ?? null, null, 1)), LIMITS.arguments),
    decisions: of.decisions.slice(0, LIMITS.decisions).map(({ by, decision, reason }) => {
      const verb = decision === "approve" ? "approved" : "denied";
      return `${printable(by)} ${verb}: ${cut(printable(reason), LIMITS.reason)}`;
    }),
    isOpen: of.status === "pending",
    expiresAt: of.expires_at,
    isCut: cut.hasCut(),
  };
}

function approverText(approver: ApprovalView["needs"][number]["by"][number]): string {
  if (typeof approver === "string") return approver === "self" ? "the human, at the console" : approver;
  return "agent" in approver ? `agent ${approver.agent}` : `group ${approver.group}`;
}

function times(count: number): string {
  return count === 1 ? "" : ` (${count} different ones)`;
}

/** Cuts between code points, and remembers that it did. */
function cutter(): { (text: string, most: number): string; hasCut(): boolean } {
  let hasCut = false;
  const cut = (text: string, most: number): string => {
    if (text.length <= most) return text;
    hasCut = true;
    return `${startOf(text, most)} … (cut)`;
  };
  return Object.assign(cut, { hasCut: () => hasCut });
}

/** At most so many characters from its start; never half of a surrogate pair, which is no text and which Slack refuses. */
export function startOf(text: string, most: number): string {
  const isHalf = text.length > most && /[\ud800-\udbff]/.test(text.charAt(most - 1));
  return text.slice(0, isHalf ? most - 1 : most);
}
