import type { StsDeps } from "../deps.ts";
import type { RefusalFace } from "../issue.ts";
import type { Proved } from "../origin.ts";
import type { Context } from "../request.ts";

/**
 * A grant type answers one question: who acts, for whom, from where. It checks no kill, decides nothing, records nothing
 * and signs nothing; the pipeline does that for all of them.
 */
export interface Grant {
  /** Value of `grant_type`. */
  readonly type: string;
  /** Its short name in the record. */
  readonly name: string;
  /** What a refusal by the gate is called on the wire. */
  readonly words: RefusalFace;
  prove(deps: StsDeps, context: Context): Promise<Proof>;
}

/** What a grant type proved. */
export interface Proof extends Proved {
  /** Targets that the presented grant itself names; another one is refused. */
  readonly onlyTargets?: readonly string[];
  /** A key that the presented grant is bound to; a proof by another, or none, is refused. */
  readonly jkt?: string;
}
