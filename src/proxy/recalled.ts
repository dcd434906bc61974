import { PinMovedError } from "../authz/authorize.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { ApprovalMissing } from "./approved.ts";
import type { ProxiedCall } from "./decided.ts";
import { Refusal } from "./refusal.ts";

/** Times that a call is decided on with its tool as it is known then; one that changes faster is given up. */
const LOOKS = 3;

/** What depends on the called tool's definition. */
export type OfTool = Pick<ProxiedCall, "call" | "facts" | "toolHash" | "blocked" | "pin">;

/**
 * The tool that a call names. What is known of it may be old when the gate is asked: from an earlier call, or because somebody
 * looked at this one meanwhile. So the gate sees whether it is still what it was (`pin`).
 */
export interface CalledTool {
  /** Known from an earlier call: it may only be granted so. No is never said, and nobody is asked, by memory. */
  readonly isRecalled: boolean;
  /** What is known of the tool now. */
  readonly again: () => Promise<OfTool>;
}

/** The call as its tool is known now, where that was by memory. */
export async function asItIs(order: ProxiedCall): Promise<ProxiedCall> {
  return order.tool?.isRecalled === true ? await lookedAgain(order, order.tool) : order;
}

/** Whether an outcome may be memory's: then the call is decided on once more. */
export function isByMemory({ tool }: ProxiedCall, error: unknown): boolean {
  if (tool?.isRecalled !== true) return false;
  return error instanceof PinMovedError || error instanceof Refusal || error instanceof ApprovalMissing;
}

/**
 * Decides on a call; once more, with its tool as it is then, where it may have been decided on by what the tool was.
 *
 * @throws {TemporarilyUnavailableError} `overloaded`: it never is the same twice
 */
export async function byItsTool<T>(order: ProxiedCall, decide: (order: ProxiedCall) => Promise<T>): Promise<T> {
  let now = order;
  for (let look = 0; look < LOOKS; look++) {
    try {
      return await decide(now);
    } catch (error) {
      const { tool } = now;
      const isOutdated = error instanceof PinMovedError || isByMemory(now, error);
      if (tool === undefined || !isOutdated) throw error;
      now = await lookedAgain(now, tool);
    }
  }
  throw new TemporarilyUnavailableError({ reason: "overloaded" });
}

async function lookedAgain(order: ProxiedCall, tool: CalledTool): Promise<ProxiedCall> {
  const { blocked: _before, pin: _then, ...rest } = order;
  const found = await tool.again();
  // An inspector may have added to what is told of it.
  return { ...rest, ...found, facts: { ...order.facts, ...found.facts }, tool: { ...tool, isRecalled: false } };
}
