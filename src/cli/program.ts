import { Command } from "commander";
import { jsonOption, objectName, type ProgramParts } from "./arguments.ts";
import { printable } from "./printable.ts";
import { addApprovalVerbs } from "./program-approvals.ts";
import { addCredentialVerbs } from "./program-credentials.ts";
import { addLedgerVerbs } from "./program-ledger.ts";
import { addTokenVerbs } from "./program-tokens.ts";
import { addToolVerbs } from "./program-tools.ts";
import { packageVersion } from "./version.ts";

/**
 * The whole command line: names, arguments, help. What a verb does is imported when it is called, so that a credential helper
 * that runs a hundred times a minute loads nothing of the server.
 */
export function buildProgram(parts: ProgramParts): Command {
  const { io } = parts;
  const program = new Command("ephor")
    .description("Short-lived credentials for AI agents: token exchange, delegation chains, audit, kill.")
    .version(packageVersion(), "-V, --version")
    .exitOverride()
    // What follows the command of `run` is the command's.
    .enablePositionalOptions()
    .configureOutput({
      writeOut: (text) => io.out(text),
      // What was typed is quoted back by commander; it may be anything.
      writeErr: (text) => io.talk(`${text.trimEnd().split("\n").map(printable).join("\n")}\n`),
    })
    .showHelpAfterError("(ephor help COMMAND says how)")
    .addHelpText(
      "after",
      "\nEPHOR_URL names the server (default http://127.0.0.1:8460). The operator key is read from EPHOR_OPERATOR_KEY,\n" +
        "EPHOR_OPERATOR_KEY_FILE, then ephor-data/operator-key.\n" +
        "Exit: 0 done, 1 failed, 2 wrong usage, 3 denied, 4 approval needed, 5 not authenticated or killed.",
    );
  addServerVerbs(program, parts);
  addTrustVerbs(program, parts);
  addTokenVerbs(program, parts);
  addCredentialVerbs(program, parts);
  addLedgerVerbs(program, parts);
  addApprovalVerbs(program, parts);
  addToolVerbs(program, parts);
  return program;
}

function addServerVerbs(program: Command, { run }: ProgramParts): void {
  program
    .command("serve")
    .description("run the service; without configuration on 127.0.0.1:8460 with an embedded database in ./ephor-data")
    .option("--config <file>", "the configuration file (default: EPHOR_CONFIG)")
    .option("--workers <n>", "processes on this machine, sharing port and database")
    .option("--apply-on-start", "apply the configured trust file at every start, not only at the first")
    .action(async (options: { config?: string; workers?: string; applyOnStart?: boolean }) => {
      await run(async (context) => await (await import("./serve.ts")).serve(context, options), false);
    });
  program
    .command("demo")
    .description("show the whole story on this machine, step by step; needs nothing and leaves nothing")
    .action(async () => {
      await run(async (context) => await (await import("./demo/demo.ts")).demo(context), false);
    });
  program
    .command("doctor")
    .description("look for what is wrong with a server and its surroundings, and say the mend")
    .option("--config <file>", "the configuration file (default: EPHOR_CONFIG)")
    .addOption(jsonOption())
    .action(async (options: { config?: string; json?: boolean }) => {
      await run(async (context) => await (await import("./doctor.ts")).doctor(context, options), options.json === true);
    });
}

function addTrustVerbs(program: Command, { run }: ProgramParts): void {
  program
    .command("apply")
    .description("apply a trust file: all of it, or nothing")
    .requiredOption("-f, --file <file>", "the trust file (YAML or JSON)")
    .option(
      "--source <name>",
      "whose objects these are (default: the file's name); objects that a later file of the same source leaves out are removed",
    )
    .option("--dry-run", "print the difference, change nothing")
    .option("--refuse-superseded", "refuse a file that was applied before and has been superseded")
    .addOption(jsonOption())
    .action(
      async (o: { file: string; source?: string; dryRun?: boolean; refuseSuperseded?: boolean; json?: boolean }) => {
        const order = {
          file: o.file,
          source: o.source,
          isDryRun: o.dryRun === true,
          refuseSuperseded: o.refuseSuperseded === true,
        };
        await run(async (context) => await (await import("./verbs/apply.ts")).apply(context, order), o.json === true);
      },
    );
  const resources = program
    .command("resources")
    .description("list where tokens can be spent")
    .addOption(jsonOption())
    .action(async (options: { json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/objects.ts")).listResources(context),
        options.json === true,
      );
    });
  resources
    .command("secret")
    .description("make an introspection secret for a tool server; printed once")
    .argument("<name>", "the resource", objectName)
    .addOption(jsonOption())
    .action(async (name: string, _: unknown, command: Command) => {
      const isJson = command.optsWithGlobals<{ json?: boolean }>().json === true;
      await run(
        async (context) => await (await import("./verbs/objects.ts")).makeResourceSecret(context, name),
        isJson,
      );
    });
}
