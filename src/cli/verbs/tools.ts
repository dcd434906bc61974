import type { ToolPage, ToolsAccepted, ToolView } from "../../api/tools.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { columns, printable } from "../printable.ts";

/** Characters of a hash that are shown in a list; `--json` has all of them. */
const SHORT = 16;

/** `ephor tools list RESOURCE`: what is pinned, and what waits. */
export async function listTools(context: CliContext, resource: string): Promise<ExitCode> {
  const page = await read(context, resource);
  if (context.isJson) context.printJson(page);
  else if (page.tools.length === 0)
    context.say(
      page.pinned_at === undefined
        ? `${resource} was not listed yet; its tools are pinned when an agent first lists or calls them`
        : `${resource} has no tools`,
    );
  else context.print(...columns(page.tools.map(rowOf)));
  return EXIT.done;
}

function rowOf({ name, status, hash, seen_hash: seen, problem, annotations, accepted_by: by }: ToolView): string[] {
  const said = annotations?.readOnlyHint === true ? "reads" : annotations?.destructiveHint === false ? "adds" : "";
  const hashes = [hash, seen].map((one) => one?.slice(0, SHORT) ?? "–").join(" → ");
  return [name, status, seen === undefined ? (hashes.split(" ", 1)[0] ?? "") : hashes, said, by ?? "", problem ?? ""];
}

/** `ephor tools diff RESOURCE TOOL`: member by member, and the hash to accept. */
export async function diffTool(context: CliContext, resource: string, tool: string): Promise<ExitCode> {
  const { tools } = await read(context, resource, tool);
  const one = tools[0];
  if (context.isJson) context.printJson(one);
  else if (one?.seen_hash === undefined) context.say(`${printable(tool)} is as it was accepted`);
  else {
    if (one.problem !== undefined) context.print(`cannot be accepted: ${one.problem}`);
    context.print(
      ...(one.differences ?? []).flatMap(({ path, before, after }) => [
        printable(path === "" ? "definition" : path),
        ...(before === undefined ? [] : [`  - ${printable(before)}`]),
        ...(after === undefined ? [] : [`  + ${printable(after)}`]),
      ]),
    );
    if (one.differences?.length === 0) context.say("it is again what was accepted");
    context.say(`seen as ${one.seen_hash}`);
  }
  return EXIT.done;
}

/** `ephor tools accept RESOURCE [TOOL]`: exactly what this command was shown, or what `--hash` names. */
export async function acceptTools(
  context: CliContext,
  o: { resource: string; tool: string | undefined; hash: string | undefined },
): Promise<ExitCode> {
  const { resource, tool, hash } = o;
  if (hash !== undefined && tool === undefined)
    throw new CliFailure("--hash is the hash of one tool; name it", { exitCode: EXIT.wrongUsage });
  const { tools } = await read(context, resource, tool);
  const waiting = tools.filter((one) => hash !== undefined || one.seen_hash !== undefined);
  const isLeft = (one: ToolView): boolean => tool === undefined && one.problem !== undefined;
  const accepted: { tool: string; hash: string }[] = [];
  for (const one of waiting) {
    if (isLeft(one)) continue;
    const body = { tool: one.name, hash: hash ?? one.seen_hash };
    accepted.push(...(await context.api.post<ToolsAccepted>(`/v1/resources/${resource}/tools/accept`, body)).accepted);
  }
  if (context.isJson) context.printJson({ accepted });
  else if (accepted.length === 0) context.say("nothing waits to be accepted");
  else context.say(...accepted.map((one) => `${printable(one.tool)} is accepted as ${one.hash}`));
  const left = waiting.filter(isLeft);
  for (const one of left) context.say(`${printable(one.name)} is left: ${one.problem ?? ""}`);
  return left.length > 0 ? EXIT.failed : EXIT.done;
}

async function read(context: CliContext, resource: string, tool?: string): Promise<ToolPage> {
  return await context.api.get<ToolPage>(`/v1/resources/${resource}/tools`, tool === undefined ? {} : { tool });
}
