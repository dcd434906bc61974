import type { ApprovalPage, ApprovalView } from "../../api/approvals.ts";
import { ConnectionError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { EXIT, type ExitCode } from "../exit-code.ts";
import { columns, printable, printableJson } from "../printable.ts";

/** `ephor approvals`: calls that wait for somebody. */
export async function approvals(context: CliContext, o: { isAll: boolean }): Promise<ExitCode> {
  const page = await context.api.get<Partial<ApprovalPage>>(`/v1/approvals?status=${o.isAll ? "all" : "pending"}`);
  if (!Array.isArray(page.items)) throw new ConnectionError("not_ephor");
  if (context.isJson) {
    context.printJson(page);
    return EXIT.done;
  }
  if (page.items.length === 0) context.print(o.isAll ? "there are no approvals" : "nothing waits for an approval");
  const rows = page.items.map((one) => [
    one.id,
    one.status,
    one.agent,
    `${one.resource}:${one.action}`,
    one.sub,
    `until ${one.expires_at}`,
  ]);
  context.print(...columns(rows), ...(page.next === undefined ? [] : ["… and more"]));
  return EXIT.done;
}

/** `ephor approvals ID`: one of them, whole: what would be called, with what. */
export async function approval(context: CliContext, id: string): Promise<ExitCode> {
  const found = await context.api.get<ApprovalView>(`/v1/approvals/${encodeURIComponent(id)}`);
  if (context.isJson) context.printJson(found);
  else context.print(...shown(found));
  return EXIT.done;
}

/** `ephor approve ID`, and with `--deny` the opposite. */
export async function approve(
  context: CliContext,
  order: { id: string; isDenied: boolean; reason: string },
): Promise<ExitCode> {
  const done = await context.api.post<ApprovalView>(`/v1/approvals/${encodeURIComponent(order.id)}`, {
    decision: order.isDenied ? "deny" : "approve",
    reason: order.reason,
  });
  if (done.id !== order.id) throw new ConnectionError("not_ephor");
  if (context.isJson) context.printJson(done);
  else if (done.status === "pending") context.print(`noted: ${printable(done.id)} waits for another approval`);
  else
    context.print(`${printable(done.status)}: ${printable(done.id)}, ${printable(`${done.resource}:${done.action}`)}`);
  return EXIT.done;
}

/** Everything in it but our own words is strangers' text: one line each, with what a terminal would obey made visible. */
function shown(of: ApprovalView): string[] {
  const facts: [string, string | undefined][] = [
    ["asks", of.path.join(" → ")],
    ["on behalf of", of.sub],
    ["owner", of.owner],
    ["says it is for", of.purpose],
    ["to do", `${of.resource}:${of.action}`],
    ["chain", of.txn],
    ["asked at", of.created_at],
    ["until", of.expires_at],
  ];
  return [
    `${printable(of.id)} ${printable(of.status)}`,
    ...facts.flatMap(([word, value]) => (value === undefined ? [] : [`  ${word.padEnd(16)}${printable(value)}`])),
    ...of.needs.map((need) => `  ${"needs".padEnd(16)}${printable(neededBy(need))}`),
    ...of.decisions.map(
      ({ by, via, decision, reason, at }) =>
        `  ${decision.padEnd(16)}${printable(by)}${via === undefined ? "" : ` by ${printable(via)}`} at ${printable(at)}: ${printable(reason)}`,
    ),
    "  call",
    ...indented(of.call),
    "  arguments",
    ...indented(of.arguments),
  ];
}

function neededBy({ grant, by, count }: ApprovalView["needs"][number]): string {
  const names = by.map((approver) =>
    typeof approver === "string"
      ? approver
      : "agent" in approver
        ? `agent ${approver.agent}`
        : `group ${approver.group}`,
  );
  return `${count === 1 ? "one" : count} of ${names.join(", ")} (grant ${grant})`;
}

function indented(value: unknown): string[] {
  return printableJson(JSON.stringify(value, undefined, 2) ?? "null")
    .split("\n")
    .map((line) => `    ${line}`);
}
