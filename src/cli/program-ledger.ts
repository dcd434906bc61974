import { InvalidArgumentError, Option } from "commander";
import type { Command } from "commander";
import { jsonOption, reasonText, type ProgramParts } from "./arguments.ts";
import type { LedgerFilters } from "./verbs/ledger-filters.ts";

/** Events shown where nothing else is asked. */
const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1_000;

/** Verbs that read what happened. */
export function addLedgerVerbs(program: Command, { run }: ProgramParts): void {
  program
    .command("chain")
    .description("a task with all its agents and tokens, as a tree")
    .argument("<txn>")
    .addOption(jsonOption())
    .action(async (txn: string, options: { json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/ledger.ts")).chain(context, txn),
        options.json === true,
      );
    });
  program
    .command("who")
    .description(
      "who is behind an id seen anywhere: jti, txn, trace id, lease, AWS access key id or session, database role, SHA-256 of a vended token (hex or base64)",
    )
    .argument("<id>")
    .addOption(jsonOption())
    .action(async (id: string, options: { json?: boolean }) => {
      await run(async (context) => await (await import("./verbs/ledger.ts")).who(context, id), options.json === true);
    });
  program
    .command("explain")
    .description("why a decision fell as it did, grant by grant, and the smallest grant that would have allowed it")
    .argument("<decision>", "an event's id: the decision of a refused call, or of a line of ephor audit --json")
    .addOption(jsonOption())
    .action(async (id: string, options: { json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/explain.ts")).explainDecision(context, id),
        options.json === true,
      );
    });
  addAudit(program, { run });
}

function addAudit(program: Command, { run }: Pick<ProgramParts, "run">): void {
  const optionsOf = (
    command: Command,
  ): LedgerFilters & {
    json?: boolean;
    limit: number;
    format?: string;
    wouldRefuse?: boolean;
    arguments?: boolean;
  } => command.optsWithGlobals();
  const audit = filtered(program.command("audit").description("what happened, newest first"))
    .option("--limit <n>", `events, at most ${MAX_LIMIT}`, readLimit, DEFAULT_LIMIT)
    .option("--arguments", "also what resources that record kept of their calls; each look is recorded")
    .option("--would-refuse", "calls that flow only because their resource observes, and the grants that they need")
    .addOption(jsonOption())
    .action(async (_: unknown, command: Command) => {
      const { json, limit, wouldRefuse, arguments: withArguments = false, ...filters } = optionsOf(command);
      await run(
        async (context) =>
          wouldRefuse === true
            ? await (await import("./verbs/explain.ts")).wouldRefuse(context, filters)
            : await (await import("./verbs/ledger.ts")).audit(context, filters, { limit, withArguments }),
        json === true,
      );
    });
  filtered(audit.command("export").description("every event as a line of JSON, oldest first"))
    .addOption(new Option("--format <format>", "of the lines").choices(["ephor", "ocsf"]))
    .action(async (_: unknown, command: Command) => {
      const { json, limit: _limit, format, ...filters } = optionsOf(command);
      await run(
        async (context) => await (await import("./verbs/ledger.ts")).exportAudit(context, filters, format),
        json === true,
      );
    });
  audit
    .command("erase")
    .description("erase what was kept of a call; the ledger stays as it is, and verifies")
    .argument("<event>", "the decision of the call, or the event of its outcome for its answer alone")
    .requiredOption("--reason <text>", "why; it is recorded", reasonText)
    .addOption(jsonOption())
    .action(async (event: string, options: { reason: string }, command: Command) => {
      await run(
        async (context) => await (await import("./verbs/ledger.ts")).eraseRecording(context, event, options.reason),
        optionsOf(command).json === true,
      );
    });
  audit
    .command("verify")
    .description("check the hash chain and its signed heads; exit 1 when anything does not fit")
    .addOption(jsonOption())
    .action(async (_: unknown, command: Command) => {
      await run(
        async (context) => await (await import("./verbs/ledger.ts")).verifyAudit(context),
        optionsOf(command).json === true,
      );
    });
}

function filtered(command: Command): Command {
  return command
    .option("--since <time>", "7d, 2026-07-01, an instant, or seconds since the epoch")
    .option("--until <time>", "likewise")
    .option("--type <type>", "such as token.issue")
    .addOption(new Option("--decision <decision>").choices(["granted", "refused", "noted"]))
    .option("--reason <reason>", "why it was refused")
    .option("--agent <name>")
    .option("--sub <sub>", "on whose behalf")
    .option("--resource <name>")
    .option("--txn <txn>")
    .option("--jti <jti>")
    .option("--trace <id>");
}

function readLimit(text: string): number {
  const limit = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > MAX_LIMIT) throw new InvalidArgumentError(`A whole number, 1 to ${MAX_LIMIT}.`);
  return limit;
}
