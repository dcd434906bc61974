import type { Command } from "commander";
import { jsonOption, reasonText, type ProgramParts } from "./arguments.ts";

/** Verbs for calls that wait for somebody. */
export function addApprovalVerbs(program: Command, { run }: Pick<ProgramParts, "run">): void {
  program
    .command("approvals")
    .description("calls that wait for an approval; with an id, what exactly would be called")
    .argument("[id]")
    .option("--all", "also those that are over")
    .addOption(jsonOption())
    .action(async (id: string | undefined, options: { all?: boolean; json?: boolean }) => {
      await run(async (context) => {
        const { approval, approvals } = await import("./verbs/approvals.ts");
        return id === undefined
          ? await approvals(context, { isAll: options.all === true })
          : await approval(context, id);
      }, options.json === true);
    });
  program
    .command("approve")
    .description("approve a call, or deny it; look at it first: ephor approvals ID")
    .argument("<id>")
    .requiredOption("--reason <text>", "why; it is recorded", reasonText)
    .option("--deny", "say no")
    .addOption(jsonOption())
    .action(async (id: string, options: { reason: string; deny?: boolean; json?: boolean }) => {
      const order = { id, isDenied: options.deny === true, reason: options.reason };
      await run(
        async (context) => await (await import("./verbs/approvals.ts")).approve(context, order),
        options.json === true,
      );
    });
}
