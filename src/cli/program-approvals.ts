import type { Command } from "commander";
import { CliFailure, EXIT } from "./exit-code.ts";
import { jsonOption, reasonText, type ProgramParts } from "./arguments.ts";

/** Verbs for calls that wait for somebody. */
export function addApprovalVerbs(program: Command, { run }: Pick<ProgramParts, "run">): void {
  program
    .command("approvals")
    .description("calls that wait for an approval; with an id, what exactly would be called")
    .argument("[id]")
    .option("--all", "also those that are over")
    .option("--txn <txn>", "those of one chain, in the order in which they were asked for")
    .addOption(jsonOption())
    .action(async (id: string | undefined, options: { all?: boolean; txn?: string; json?: boolean }) => {
      await run(async (context) => {
        const { approval, approvals } = await import("./verbs/approvals.ts");
        return id === undefined
          ? await approvals(context, { isAll: options.all === true, txn: options.txn })
          : await approval(context, id);
      }, options.json === true);
    });
  program
    .command("approve")
    .description("approve a call, or deny it; look at it first: ephor approvals ID")
    .argument("<id...>")
    .requiredOption("--reason <text>", "why; it is recorded", reasonText)
    .option("--deny", "say no")
    .option("--txn <txn>", "several calls, all of this chain; each is shown")
    .addOption(jsonOption())
    .action(
      async (ids: readonly string[], options: { reason: string; deny?: boolean; txn?: string; json?: boolean }) => {
        const { txn, reason } = options;
        const order = { ids, isDenied: options.deny === true, reason };
        await run(async (context) => {
          // What nobody looked at is not decided along with what somebody did.
          if (txn === undefined && ids.length > 1)
            throw new CliFailure("several calls are decided with --txn, which names their chain and has each shown", {
              exitCode: EXIT.wrongUsage,
            });
          const { approve, approveOf } = await import("./verbs/approvals.ts");
          return txn === undefined ? await approve(context, order) : await approveOf(context, { ...order, txn });
        }, options.json === true);
      },
    );
}
