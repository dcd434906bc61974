import { approvalPage, approvalView, type ApprovalView } from "../../api/approvals.ts";
import type { Viewer } from "../page.ts";

/** How far back is looked. */
const LOOKED_AT = 200;

/** Changes that are listed; the whole of both is on their own pages. */
const MAX_CHANGES = 50;

/** One place in which two calls differ; a side is absent where there was nothing. */
export interface Change {
  /** JSON Pointer (RFC 6901). */
  readonly where: string;
  readonly before?: unknown;
  readonly now?: unknown;
}

/** A call of the same agent, resource and action that was approved before. */
export interface Earlier {
  readonly approval: ApprovalView;
  readonly changes: readonly Change[];
  /** Whether there are more of them than are listed. */
  readonly isCut: boolean;
}

/** The last one that was approved, so that its reader sees at a glance what is new (field.md U7); undefined for the first. */
export async function lastApproved(viewer: Viewer, approval: ApprovalView): Promise<Earlier | undefined> {
  const { id, agent, resource, action } = approval;
  const list = await viewer.api({
    method: "GET",
    path: "/v1/approvals",
    query: { status: "all", limit: String(LOOKED_AT), before: id },
  });
  if (list.status !== 200) return undefined;
  const known = approvalPage
    .parse(list.json)
    .items.find(
      (one) =>
        one.agent === agent &&
        one.resource === resource &&
        one.action === action &&
        (one.status === "used" || one.status === "approved"),
    );
  const read = known && (await viewer.api({ method: "GET", path: `/v1/approvals/${known.id}` }));
  if (read?.status !== 200) return undefined;
  const before = approvalView.parse(read.json);
  const changes: Change[] = [];
  compare("/call", [before.call, approval.call], changes);
  compare("/arguments", [before.arguments, approval.arguments], changes);
  return { approval: before, changes: changes.slice(0, MAX_CHANGES), isCut: changes.length > MAX_CHANGES };
}

function compare(where: string, [before, now]: readonly [unknown, unknown], to: Change[]): void {
  if (before === undefined && now === undefined) return;
  if (before === undefined) return void to.push({ where, now });
  if (now === undefined) return void to.push({ where, before });
  if (!isComposite(before) || !isComposite(now) || Array.isArray(before) !== Array.isArray(now)) {
    if (before !== now) to.push({ where, before, now });
    return;
  }
  for (const name of [...new Set([...Object.keys(before), ...Object.keys(now)])].toSorted())
    compare(`${where}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`, [own(before, name), own(now, name)], to);
}

function isComposite(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function own(value: Readonly<Record<string, unknown>>, name: string): unknown {
  return Object.hasOwn(value, name) ? value[name] : undefined;
}
