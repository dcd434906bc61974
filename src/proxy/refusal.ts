import type { EventValue } from "../audit/event.ts";
import type { Considered } from "../core/grants/considered.ts";
import type { Decision } from "../core/grants/decide.ts";
import type { Reason } from "../core/oauth/reasons.ts";

/** An action, and what each agent's grants said to it. */
export interface Looked {
  readonly action: string;
  readonly path: readonly string[];
  readonly considered: readonly Considered[];
}

/** A no: thrown out of `prepare`, and recorded once. */
export class Refusal extends Error {
  readonly decision: Extract<Decision, { allowed: false }>;
  /** Its scope, where it is granted and the token lacks it. */
  readonly lacking: string | undefined;
  /** What was looked at, for the record. */
  readonly looked: Looked | undefined;

  constructor(decision: Extract<Decision, { allowed: false }>, at: { lacking?: string; looked?: Looked } = {}) {
    super(decision.reason);
    this.decision = decision;
    this.lacking = at.lacking;
    this.looked = at.looked;
  }
}

/** What a refusal says to its caller, where it is not the grants'. */
const SAID: Readonly<Partial<Record<Reason, string>>> = {
  tool_quarantined: "This tool is not one that was accepted.",
  tool_unknown: "This tool is not one that was accepted.",
  inspection_refused: "An inspection refused this call.",
  inspection_failed: "This call could not be inspected.",
};

/** One of our own sentences. */
export function saidOf({ reason }: Refusal["decision"]): string {
  return SAID[reason] ?? "No grant allows this call.";
}

/** What was looked at, as the record has it. */
export function toldOf(looked: Looked | undefined): EventValue {
  return looked?.considered.map(({ agent, grant, verdict }) => ({ agent, grant, verdict }));
}
