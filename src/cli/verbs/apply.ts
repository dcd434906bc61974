import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { ApplyResult } from "../../api/apply.ts";
import { ApiError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { exitCodeOf, placed } from "../failure.ts";
import { columns, printable } from "../printable.ts";

/** What the server takes, in characters. */
const MAX_FILE_CHARACTERS = 1_000_000;

const SIGNS = { create: "+", update: "~", delete: "-" } as const;
const DONE = { create: "made", update: "changed", delete: "removed" } as const;

/** `ephor apply`: plans a trust file, or applies it; all of it or nothing. */
export async function apply(
  context: CliContext,
  order: { file: string; source?: string | undefined; isDryRun: boolean; refuseSuperseded: boolean },
): Promise<ExitCode> {
  const file = await readTrustFile(order.file);
  const source = order.source ?? basename(order.file);
  let result: ApplyResult;
  try {
    result = await context.api.post<ApplyResult>("/v1/apply", {
      source,
      file,
      ...(order.isDryRun && { dry_run: true }),
      ...(order.refuseSuperseded && { refuse_superseded: true }),
    });
  } catch (error) {
    if (!(error instanceof ApiError) || error.entries.length === 0) throw error;
    if (context.isJson) context.printJson({ error: error.code, errors: error.entries });
    context.say(
      `refused, nothing was changed: ${error.message}`,
      ...error.entries.map((entry) => `  ${placed(entry, order.file)}`),
    );
    return exitCodeOf(error);
  }
  context.say(
    ...result.warnings.map((warning) => `warning: ${placed(warning as Parameters<typeof placed>[0], order.file)}`),
  );
  if (context.isJson) context.printJson(result);
  else context.print(...shown(result, order.isDryRun));
  return EXIT.done;
}

async function readTrustFile(path: string): Promise<string> {
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new CliFailure(`${path} cannot be read (${cause.code ?? "unknown"})`, { cause });
  });
  if (text.length > MAX_FILE_CHARACTERS)
    throw new CliFailure(`${path} is larger than a million characters; split it, each part with a --source`);
  return text;
}

function shown(result: ApplyResult, isDryRun: boolean): string[] {
  const source = printable(result.source);
  if (result.changes.length === 0) return [`${source}: nothing to change, trust version ${result.version}`];
  const rows = result.changes.map((change) => [
    SIGNS[change.action],
    `${change.kind}/${change.name}`,
    [...(change.members ?? []), ...(change.kills === true ? [isDryRun ? "would be killed" : "killed"] : [])].join(", "),
  ]);
  const counts = (["create", "update", "delete"] as const)
    .map((action) => ({ action, count: result.changes.filter((change) => change.action === action).length }))
    .filter(({ count }) => count > 0)
    .map(({ action, count }) => `${count} ${isDryRun ? `to be ${DONE[action]}` : DONE[action]}`);
  return [
    ...columns(rows),
    isDryRun
      ? `${source}: ${counts.join(", ")}; nothing was changed (--dry-run), trust version ${result.version}`
      : `${source}: ${counts.join(", ")}, trust version ${result.version}`,
  ];
}
