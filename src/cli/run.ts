import { CommanderError } from "commander";
import type { Verb } from "./arguments.ts";
import { createContext, type CliIo } from "./context.ts";
import { EXIT } from "./exit-code.ts";
import { exitCodeOf, explain } from "./failure.ts";
import { buildProgram } from "./program.ts";

/**
 * Runs one command line.
 *
 * @param args without the program's name
 * @returns how it ended; data is on standard output, everything else on standard error
 */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  let exitCode: number = EXIT.done;
  const run = async (verb: Verb, isJson: boolean): Promise<void> => {
    const context = createContext(io, isJson);
    try {
      exitCode = await verb(context);
    } catch (error) {
      exitCode = exitCodeOf(error);
      context.say(...explain(error, urlOf(context)).map((line, at) => (at === 0 ? `ephor: ${line}` : line)));
    }
  };
  const program = buildProgram({ run, io });
  try {
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Help and version end with 0; commander has written what is wrong.
    return error.exitCode === 0 ? EXIT.done : EXIT.wrongUsage;
  }
  return exitCode;
}

function urlOf(context: { readonly settings: { readonly url: string } }): string | undefined {
  try {
    return context.settings.url;
  } catch {
    return undefined;
  }
}
