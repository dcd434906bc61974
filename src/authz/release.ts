import type { Permit } from "../core/permit.ts";
import type { Clock } from "../system/clock.ts";
import type { Authorizer } from "./authorize.ts";

/**
 * What leaves only while its permit lives, asked in the turn in which it is written. Where it may not, or cannot, leave any more
 * the record says so.
 *
 * @param undo what else is to be done for what nobody got
 */
export function releaseOf(
  { authorizer, clock }: { authorizer: Pick<Authorizer, "withheld">; clock: Pick<Clock, "monotonicMs"> },
  permit: Permit,
  undo?: () => void,
): { release(): boolean; withheld(): void } {
  const withheld = (): void => {
    authorizer.withheld(permit);
    undo?.();
  };
  return {
    release() {
      if (permit.isLive(clock.monotonicMs())) return true;
      withheld();
      return false;
    },
    withheld,
  };
}
