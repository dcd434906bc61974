import { InvalidArgumentError, Option } from "commander";
import type { CliContext, CliIo } from "./context.ts";

/** What a command does once its arguments are read; how it ends is an {@link ExitCode}, for `run` its command's own. */
export type Verb = (context: CliContext) => Promise<number>;

/** Runs a verb and keeps how it ended. */
export type RunVerb = (verb: Verb, isJson: boolean) => Promise<void>;

/** What the parts of the command line are built with. */
export interface ProgramParts {
  readonly run: RunVerb;
  readonly io: CliIo;
}

/** `--json`, on everything that prints. */
export function jsonOption(): Option {
  return new Option("--json", "print JSON");
}

/** Gathers an option that may come several times. */
export function gather(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** The name of a trust object (CONTRACT §1). */
export function objectName(text: string): string {
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(text))
    throw new InvalidArgumentError("Names are lower-case letters, digits and dashes.");
  return text;
}

/** A reason that the ledger takes. */
export function reasonText(text: string): string {
  const reason = text.trim();
  if (reason === "" || reason.length > 500) throw new InvalidArgumentError("Say why, in at most 500 characters.");
  return reason;
}
