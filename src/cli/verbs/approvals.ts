import type { ApprovalPage, ApprovalView } from "../../api/approvals.ts";
import { ConnectionError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { columns, printable, printableJson } from "../printable.ts";

/** `ephor approvals`: calls that wait for somebody; of one chain in the order in which they were asked for. */
export async function approvals(
  context: CliContext,
  o: { isAll: boolean; txn: string | undefined },
): Promise<ExitCode> {
  const chain = o.txn === undefined ? "" : `&limit=200&txn=${encodeURIComponent(o.txn)}`;
  const page = await context.api.get<Partial<ApprovalPage>>(
    `/v1/approvals?status=${o.isAll ? "all" : "pending"}${chain}`,
  );
  if (!Array.isArray(page.items)) throw new ConnectionError("not_ephor");
  if (o.txn !== undefined) page.items.reverse();
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

/** A decision, the same for all that are named. */
interface DecisionOrder {
  readonly ids: readonly string[];
  readonly isDenied: boolean;
  readonly reason: string;
}

/** `ephor approve ID`, and with `--deny` the opposite. */
export async function approve(context: CliContext, order: DecisionOrder): Promise<ExitCode> {
  const done = await decided(context, order, order.ids[0] ?? "");
  if (context.isJson) context.printJson(done);
  else context.print(outcomeOf(done));
  return EXIT.done;
}

/**
 * `ephor approve --txn T ID…`: calls of one chain, each shown whole before it is decided. Nothing is decided unless all that
 * are named are of that chain; one that cannot be decided any more keeps none of the others.
 */
export async function approveOf(context: CliContext, order: DecisionOrder & { txn: string }): Promise<ExitCode> {
  const { txn, ids, isDenied } = order;
  const found: ApprovalView[] = [];
  for (const id of new Set(ids))
    found.push(await context.api.get<ApprovalView>(`/v1/approvals/${encodeURIComponent(id)}`));
  const foreign = found.filter((one) => one.txn !== txn).map(({ id }) => id);
  if (foreign.length > 0)
    throw new CliFailure(`not of the chain ${txn}: ${foreign.join(", ")}; nothing was decided`, {
      exitCode: EXIT.wrongUsage,
    });
  const done: ApprovalView[] = [];
  let failed: unknown;
  for (const one of found) {
    if (!context.isJson) context.print(...shown(one));
    try {
      const now = await decided(context, order, one.id);
      done.push(now);
      if (!context.isJson) context.print(outcomeOf(now));
    } catch (error) {
      failed ??= error;
      context.say(`not ${isDenied ? "denied" : "approved"}: ${one.id}`);
    }
  }
  if (context.isJson) context.printJson(done);
  if (failed !== undefined) throw failed;
  return EXIT.done;
}

async function decided(
  context: CliContext,
  { isDenied, reason }: Pick<DecisionOrder, "isDenied" | "reason">,
  id: string,
): Promise<ApprovalView> {
  const done = await context.api.post<ApprovalView>(`/v1/approvals/${encodeURIComponent(id)}`, {
    decision: isDenied ? "deny" : "approve",
    reason,
  });
  if (done.id !== id) throw new ConnectionError("not_ephor");
  return done;
}

function outcomeOf({ id, status, resource, action }: ApprovalView): string {
  if (status === "pending") return `noted: ${printable(id)} waits for another approval`;
  return `${printable(status)}: ${printable(id)}, ${printable(`${resource}:${action}`)}`;
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
