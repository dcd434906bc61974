import type { CliContext } from "../context.ts";
import { printable } from "../printable.ts";

/** A step did not do what it claims. */
export class DemoFailure extends Error {
  override readonly name = "DemoFailure";
}

/** Prints the story and checks every claim it makes. */
export interface Stage {
  /** Begins a numbered step. */
  step(title: string, ...explanation: string[]): void;
  /** What an agent, a person or a server sends. */
  does(who: string, what: string): void;
  /** What comes of it. */
  shows(...lines: string[]): void;
  /** Prints a claim as true; throws when it is not. */
  claim(claim: string, isTrue: boolean): void;
  readonly steps: number;
  readonly claims: number;
}

/**
 * A stage on standard output.
 *
 * @param signal once it is aborted, the next step does not begin
 */
export function createStage({ print }: Pick<CliContext, "print">, signal: AbortSignal): Stage {
  let steps = 0;
  let claims = 0;
  return {
    step(title, ...explanation) {
      signal.throwIfAborted();
      steps += 1;
      print("", `${steps}. ${title}`, ...explanation.map((line) => `   ${line}`));
    },
    does: (who, what) => print(`   ${printable(who)}: ${printable(what)}`),
    shows: (...lines) => print(...lines.map((line) => `      ${line}`)),
    claim(claim, isTrue) {
      if (!isTrue) throw new DemoFailure(`step ${steps} claims “${claim}”, and that is not so`);
      claims += 1;
      print(`   ✓ ${printable(claim)}`);
    },
    get steps() {
      return steps;
    },
    get claims() {
      return claims;
    },
  };
}
