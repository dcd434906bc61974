import type { FileProblem } from "./trust-file.ts";

/** Why a change of trust objects was not made. */
export type TrustRefusal =
  /** Something in it is wrong; `problems` says what (422). */
  | "trust_invalid"
  /** Another source owns an object of that name (409). */
  | "trust_conflict"
  /** This text was applied before and a later one took its place (409). */
  | "trust_superseded"
  /** An agent may not change what its own power rests on (403). */
  | "trust_forbidden"
  /** The trust version is not the one that was expected (409). */
  | "trust_stale"
  /** There is no such object (404). */
  | "trust_not_found";

/** A change of trust objects that was refused as a whole; nothing was changed. */
export class TrustRefusedError extends Error {
  readonly code: TrustRefusal;
  readonly problems: readonly FileProblem[];

  constructor(code: TrustRefusal, problems: readonly FileProblem[] = []) {
    super(code);
    this.name = "TrustRefusedError";
    this.code = code;
    this.problems = problems;
  }
}
