import type { KillReceipt, Restored } from "../../api/kill.ts";
import { ApiError, ConnectionError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { columns, printable } from "../printable.ts";

/** What `ephor kill` can name, and what the API calls it. */
export const KILLABLE = {
  agent: "agent",
  chain: "txn",
  credential: "jti",
  lease: "lease",
  subject: "subject",
  owner: "owner",
  issuer: "issuer",
  resource: "resource",
  trace: "trace",
  all: "all",
} as const;

/** Something that can be killed. */
export type Killable = keyof typeof KILLABLE;

/** Something that can be restored: the rest stays dead for ever. */
export type Restorable = Extract<Killable, "agent" | "subject" | "owner" | "issuer" | "resource" | "all">;

/** What is vended is a credential too, for whoever has its id in hand. */
const isLease = (name: string): boolean => name.startsWith("lease_");

/** `{agent: ["a", "b"]}`, or `{all: true}`. */
function targets(what: Killable, names: readonly string[]): Record<string, unknown> {
  if (what === "credential" && names.some(isLease)) {
    const jti = names.filter((name) => !isLease(name));
    return { lease: names.filter(isLease), ...(jti.length > 0 && { jti }) };
  }
  return what === "all" ? { all: true } : { [KILLABLE[what]]: names };
}

/**
 * `ephor kill`: says that something is dead only when the server said so. Without a whole answer it is unknown, and the
 * command is to be repeated: a second kill of the same thing does no harm (A-KILL-12).
 */
export async function kill(
  context: CliContext,
  order: { what: Killable; names: readonly string[]; reason: string; lasts: string | undefined; isDryRun: boolean },
): Promise<ExitCode> {
  let receipt: KillReceipt;
  try {
    receipt = confirmed(
      await context.api.post<Partial<KillReceipt>>("/v1/kill", {
        ...targets(order.what, order.names),
        reason: order.reason,
        ...(order.lasts !== undefined && { for: order.lasts }),
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

/** `ephor restore`: lifts kills. What was issued before the kill stays dead. */
export async function restore(
  context: CliContext,
  order: { what: Restorable; names: readonly string[]; reason: string },
): Promise<ExitCode> {
  let answer: Restored;
  try {
    answer = await context.api.post<Restored>("/v1/restore", {
      ...targets(order.what, order.names),
      reason: order.reason,
    });
    if (!Array.isArray(answer.restored)) throw new ConnectionError("not_ephor");
  } catch (error) {
    throw asUnknown(error, "restored");
  }
  if (context.isJson) context.printJson(answer);
  else if (answer.restored.length === 0) context.print("nothing was killed, so nothing was restored");
  else
    context.print(
      `restored: ${answer.restored.map(({ kind, id }) => printable(kind === "agent" || kind === "all" ? id : `${kind} ${id}`)).join(", ")}`,
    );
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
  const rows = receipt.lines.map((line) => [
    line.outcome.replace("_", " "),
    line.kind,
    line.id,
    line.agent ?? "",
    line.outcome === "dies_at" ? `at ${line.at}` : (line.problem ?? ""),
  ]);
  const head = receipt.dry_run
    ? `would die: ${receipt.lines.length} (nothing was killed)`
    : `killed at ${printable(receipt.at)}, receipt ${printable(receipt.id ?? "")}`;
  const left = receipt.left_off === undefined ? "… and more" : `… and ${receipt.left_off} more`;
  return [
    head,
    ...(receipt.ends_at === undefined ? [] : [`  until ${printable(receipt.ends_at)}`]),
    ...columns(rows).map((line) => `  ${line}`),
    ...(receipt.truncated === true ? [`  ${left}`] : []),
    ...replicasShown(receipt.replicas),
  ];
}

/** Who acknowledged, in one line; one line more for each that had to be fenced. */
function replicasShown(replicas: KillReceipt["replicas"]): string[] {
  const heard = replicas.filter(({ outcome }) => outcome === "acknowledged");
  if (replicas.length === 0) return [];
  const slowest = Math.max(0, ...heard.map(({ ms }) => ms));
  return [
    `  acknowledged by ${heard.length} of ${replicas.length} replicas within ${slowest} ms`,
    ...replicas
      .filter(({ outcome }) => outcome !== "acknowledged")
      .map(({ replica, outcome, ms }) => `  ${outcome}: replica ${printable(replica)}, after ${ms} ms`),
  ];
}
