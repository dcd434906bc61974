import type { RememberedPin } from "../authz/ask.ts";
import { PinMovedError } from "../authz/authorize.ts";
import { ApprovalMissing } from "./approved.ts";
import type { ProxiedCall } from "./decided.ts";
import { Refusal } from "./refusal.ts";

/** What depends on the called tool's definition. */
export type OfTool = Pick<ProxiedCall, "call" | "facts" | "toolHash" | "blocked">;

/**
 * A call whose tool is known from an earlier one. It may only be granted so, and the gate sees whether the tool is still what it
 * was: no is never said, and nobody is asked, by memory.
 */
export interface Recalled {
  readonly pin: RememberedPin;
  /** What is known of the tool now. */
  readonly again: () => Promise<OfTool>;
}

/** The call as its tool is known now. */
export async function asItIs(order: ProxiedCall): Promise<ProxiedCall> {
  const { recalled, blocked: _before, ...rest } = order;
  return recalled === undefined ? order : { ...rest, ...(await recalled.again()) };
}

/** Whether an outcome may be memory's: then the call is decided on once more. */
export function isByMemory({ recalled }: ProxiedCall, error: unknown): boolean {
  if (recalled === undefined) return false;
  return error instanceof PinMovedError || error instanceof Refusal || error instanceof ApprovalMissing;
}
