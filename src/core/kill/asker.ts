import { InvalidTokenError } from "../oauth/errors.ts";

/**
 * What would kill whoever asks for a change, each with the kill epoch at which it was taken on. Whoever makes the change has the
 * database look at it in the same statement (`ephor.asker_lives`): what was asked for before a kill is not done after it
 * (CONTRACT §2 rule 7).
 */
export interface Asker {
  readonly keys: readonly string[];
  readonly epochs: readonly number[];
}

/** As `ephor.asker_lives` takes it. */
export function askerParam(asker: Asker | undefined): string | null {
  return asker === undefined ? null : JSON.stringify({ keys: asker.keys, epochs: asker.epochs });
}

/** Whoever asked was killed before it was done: it is not. */
export function askerKilled(): InvalidTokenError {
  return new InvalidTokenError({ reason: "killed" });
}
