import type { KillReceipt, Restored } from "../../api/kill.ts";
import { ApiError, ConnectionError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { columns, printable } from "../printable.ts";

/** What `ephor kill` can name, and what the API calls it. */
export const KILLABLE = { agent: "agent", chain: "txn", credential: "jti" } as const;

/** Something that can be killed. */
export type Killable = keyof typeof KILLABLE;

/**
 * `ephor kill`: says that something is dead only when the server said so. Without a whole answer it is unknown, and the
 * command is to be repeated: a second kill of the same thing does no harm (A-KILL-12).
 */
export async function kill(
  context: CliContext,
  order: { what: Killable; names: readonly string[]; reason: string; isDryRun: boolean },
): Promise<ExitCode> {
  let receipt: KillReceipt;
  try {
    receipt = confirmed(
      await context.api.post<Partial<KillReceipt>>("/v1/kill", {
        [KILLABLE[order.what]]: order.names,
        reason: order.reason,
        ...(order.isDryRun && { dry_run: true }),
      }),
      order.isDryRun,
    );
  } catch (error) {
    throw asUnknown(error, "dead");
  }
  if (context.isJson) context.printJson(receipt);
  else context.print(...shown(receipt));
  return EXIT.done;
}

/** `ephor restore`: lets killed agents work again. What was issued before the kill stays dead. */
export async function restore(
  context: CliContext,
  order: { agents: readonly string[]; reason: string },
): Promise<ExitCode> {
  let answer: Restored;
  try {
    answer = await context.api.post<Restored>("/v1/restore", { agent: order.agents, reason: order.reason });
    if (!Array.isArray(answer.restored)) throw new ConnectionError("not_ephor");
  } catch (error) {
    throw asUnknown(error, "restored");
  }
  if (context.isJson) context.printJson(answer);
  else if (answer.restored.length === 0) context.print("nothing was killed, so nothing was restored");
  else context.print(`restored: ${answer.restored.map(printable).join(" ")}`);
  return EXIT.done;
}

/** A receipt with its lines, and, unless it is a preview, the kill's id: what only a server that did it can have. */
function confirmed(answer: Partial<KillReceipt>, isDryRun: boolean): KillReceipt {
  const isReceipt =
    Array.isArray(answer.lines) && answer.dry_run === isDryRun && (isDryRun || typeof answer.id === "string");
  if (!isReceipt) throw new ConnectionError("not_ephor");
  return answer as KillReceipt;
}

/** Everything but a whole refusal leaves it open: the request may have been carried out. */
function asUnknown(error: unknown, state: string): unknown {
  const isOpen =
    (error instanceof ConnectionError && error.isOutcomeUnknown) || (error instanceof ApiError && error.status >= 500);
  if (!isOpen) return error;
  return new CliFailure(
    `unknown, repeat: no whole answer came, so it may or may not be ${state} now; run the same command again`,
    { cause: error },
  );
}

function shown(receipt: KillReceipt): string[] {
  const rows = receipt.lines.map((line) => [line.outcome.replace("_", " "), line.kind, line.id, line.agent ?? ""]);
  const head = receipt.dry_run
    ? `would die: ${receipt.lines.length} (nothing was killed)`
    : `killed at ${printable(receipt.at)}, receipt ${printable(receipt.id ?? "")}`;
  return [head, ...columns(rows).map((line) => `  ${line}`), ...(receipt.truncated === true ? ["  … and more"] : [])];
}
