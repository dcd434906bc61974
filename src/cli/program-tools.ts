import type { Command } from "commander";
import { jsonOption, objectName, type ProgramParts } from "./arguments.ts";

/** Verbs about the tools of MCP servers (CONTRACT §8). */
export function addToolVerbs(program: Command, { run }: ProgramParts): void {
  const tools = program.command("tools").description("what MCP servers' tools were accepted as, and what changed");
  tools
    .command("list")
    .description("tools of a resource: pinned, changed (quarantined) and new (hidden)")
    .argument("<resource>", "the resource", objectName)
    .addOption(jsonOption())
    .action(async (resource: string, options: { json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/tools.ts")).listTools(context, resource),
        options.json === true,
      );
    });
  tools
    .command("diff")
    .description("how a tool's definition, as it was last seen, differs from the accepted one")
    .argument("<resource>", "the resource", objectName)
    .argument("<tool>")
    .addOption(jsonOption())
    .action(async (resource: string, tool: string, options: { json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/tools.ts")).diffTool(context, resource, tool),
        options.json === true,
      );
    });
  tools
    .command("accept")
    .description("accept a tool as it was last seen; without a name, all that wait")
    .argument("<resource>", "the resource", objectName)
    .argument("[tool]")
    .option("--hash <hash>", "accept only this definition, as `list` or `diff` showed it")
    .addOption(jsonOption())
    .action(async (resource: string, tool: string | undefined, o: { hash?: string; json?: boolean }) => {
      await run(
        async (context) =>
          await (await import("./verbs/tools.ts")).acceptTools(context, { resource, tool, hash: o.hash }),
        o.json === true,
      );
    });
}
