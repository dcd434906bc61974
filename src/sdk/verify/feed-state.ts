import { REPLICA_SKEW_SECONDS } from "../../core/token/check.ts";
import type { AccessTokenClaims } from "../../core/token/claims.ts";
import type { Clock } from "./clock.ts";
import { createDeadThings } from "./dead-things.ts";
import type { FeedFrame } from "./feed-frame.ts";

/** What becomes of a good frame. */
export type Taken =
  /** It tells something new, or that nothing is. */
  | "taken"
  /** It was told before: replayed, or read in the same second. It counts as silence. */
  | "old"
  /** It is from before what is known: frames came out of order, so that some may have been missed. All is asked for anew. */
  | "back"
  /** Frames between what is known and this one are missing: it counts as silence until they came. */
  | "gap"
  /** It comes from a time that has not been. */
  | "ahead";

/** What the feed has told so far. */
export interface FeedState {
  take(frame: FeedFrame): Taken;
  /** Position up to which everything dead is known; undefined: nothing is. */
  readonly seq: number | undefined;
  /** Whether it was heard within the bound, so that what it does not name is not dead. */
  isFresh(): boolean;
  isDead(claims: AccessTokenClaims): boolean;
}

/**
 * Follows positions and freshness. Fresh means both: by this process's monotonic clock a frame came within the bound, and by
 * wall time the newest read of kills that any frame reports lies within it. So neither a held-back frame, nor a process that
 * was stopped, nor a wall clock that was set back makes old news look new.
 *
 * @param boundSeconds longest silence, 2 to 30
 */
export function createFeedState(boundSeconds: number, clock: Clock): FeedState {
  const dead = createDeadThings();
  let seq: number | undefined;
  let asOf = 0;
  let heardMs = Number.NEGATIVE_INFINITY;
  return {
    get seq() {
      return seq;
    },
    take(frame) {
      if (frame.asOf > clock.nowMs() / 1000 + REPLICA_SKEW_SECONDS) return "ahead";
      // INVARIANT: what died by position `seq` is known. A frame that begins later would leave a hole in that.
      if ((frame.after ?? 0) > (seq ?? 0)) return "gap";
      if (seq !== undefined && frame.seq < seq) {
        seq = undefined;
        heardMs = Number.NEGATIVE_INFINITY;
        return "back";
      }
      if (frame.seq === seq && frame.asOf <= asOf) return "old";
      dead.add(frame.dead, frame.asOf);
      seq = frame.seq;
      asOf = Math.max(asOf, frame.asOf);
      heardMs = clock.monotonicMs();
      return "taken";
    },
    isFresh: () =>
      clock.monotonicMs() - heardMs <= boundSeconds * 1000 &&
      // A whole second stands for any moment within it.
      clock.nowMs() / 1000 - asOf <= boundSeconds + (Number.isInteger(asOf) ? 1 : 0),
    isDead: (claims) => dead.covers(claims),
  };
}
