import { z } from "zod";
import { approvalPage, approvalView, type ApprovalPage, type ApprovalView } from "../../api/approvals.ts";
import { problemShape } from "../../api/problem.ts";
import { html, type Markup, type Part } from "../html.ts";
import { foreign } from "../hostile-text.ts";
import { moment, span } from "../layout.ts";
import { nothingHere, page, PageError, type Answer, type ApiAnswer, type Page, type Viewer } from "../page.ts";
import { approvalMain, type Said } from "./approval.ts";
import { lastApproved } from "./earlier.ts";

/** Of a page of the list. */
const PER_PAGE = 50;

const id = z.string().regex(/^apr_[0-9A-HJKMNP-TV-Z]{26}$/);

/** Calls that wait for somebody, and the decision about one. */
export const approvalPages: readonly Page[] = [
  page({
    method: "GET",
    path: "/console/approvals",
    access: "signed-in",
    query: z.strictObject({ status: z.enum(["pending", "all"]).optional(), before: id.optional() }),
    async handle({ query, viewer, at, request }) {
      const isAll = query.status === "all";
      const found = await pendingOf(viewer as Viewer, query);
      const older = `${at("/console/approvals")}?${isAll ? "status=all&" : ""}before=${found.next ?? ""}`;
      return {
        kind: "page",
        title: isAll ? "Approvals" : "Waiting for approval",
        main: html`<p>
            ${
              isAll
                ? html`<a href="${at("/console/approvals")}">Only what waits</a>`
                : html`<a href="${at("/console/approvals")}?status=all">Also what was decided</a>`
            }
          </p>
          ${found.items.length === 0 && html`<p>${isAll ? "There are none." : "Nothing waits."} Load the page again to look again.</p>`}
          ${listed(pendingFirst(found.items), { at, nowMs: request.receivedAtMs })}
          ${found.next !== undefined && html`<p><a href="${older}">Older ones</a></p>`}`,
      };
    },
  }),
  page({
    method: "GET",
    path: "/console/approvals/{id}",
    access: "signed-in",
    handle: async ({ params, viewer, at, request }) =>
      await shown(params["id"], { viewer: viewer as Viewer, at, nowMs: request.receivedAtMs }),
  }),
  page({
    method: "POST",
    path: "/console/approvals/{id}",
    access: "signed-in",
    fields: z.strictObject({ decision: z.enum(["approve", "deny"]), reason: z.string().max(4_096).optional() }),
    async handle({ params, fields, viewer: given, at, request }) {
      const viewer = given as Viewer;
      const asked = idOf(params["id"]);
      const { decision, reason = "" } = fields;
      const answer = await viewer.api({ method: "POST", path: `/v1/approvals/${asked}`, body: { decision, reason } });
      // To the page of it, by GET: to load that again decides nothing again.
      if (answer.status === 200) return { kind: "redirect", to: `/console/approvals/${asked}` };
      const said = refusedBy(answer, { decision, reason });
      return await shown(asked, { viewer, at, nowMs: request.receivedAtMs, said });
    },
  }),
];

/** A page of approvals, as the viewer may see them. */
export async function pendingOf(
  viewer: Viewer,
  o: { status?: "pending" | "all" | undefined; before?: string | undefined },
): Promise<ApprovalPage> {
  const answer = await viewer.api({
    method: "GET",
    path: "/v1/approvals",
    query: {
      status: o.status ?? "pending",
      limit: String(PER_PAGE),
      ...(o.before !== undefined && { before: o.before }),
    },
  });
  return approvalPage.parse(checked(answer).json);
}

async function shown(
  asked: string | undefined,
  o: { viewer: Viewer; at: (path: string) => string; nowMs: number; said?: Said },
): Promise<Answer> {
  const { viewer, at, said } = o;
  const answer = await viewer.api({ method: "GET", path: `/v1/approvals/${idOf(asked)}` });
  const approval: ApprovalView = approvalView.parse(checked(answer).json);
  const earlier = approval.status === "pending" ? await lastApproved(viewer, approval) : undefined;
  return {
    kind: "page",
    ...(said !== undefined && { status: said.status }),
    title: `${approval.agent} wants to call ${approval.resource}`,
    main: approvalMain(approval, { viewer, at, nowSeconds: Math.floor(o.nowMs / 1_000), said, earlier }),
  };
}

/** @throws {PageError} 404 */
function idOf(text: string | undefined): string {
  const read = id.safeParse(text);
  if (!read.success) throw nothingHere();
  return read.data;
}

/** @throws {PageError} for what the API refuses, in words for people */
function checked(answer: ApiAnswer): ApiAnswer {
  const { status } = answer;
  if (status === 200) return answer;
  if (status === 404) throw nothingHere();
  if (status === 403)
    throw new PageError(
      403,
      "This is not for you to see",
      html`An operator of Ephor can give you a role: <code>operators</code> in the trust file.`,
    );
  throw new PageError(status, "That could not be shown", html`${detailOf(answer)} Try again in a moment.`);
}

/** What to say above the form after a refused decision. */
function refusedBy(answer: ApiAnswer, { decision, reason }: { decision: "approve" | "deny"; reason: string }): Said {
  // 401 is "sign in again" to programs; a browser would ask for a password of its own.
  const status = answer.status === 401 ? 403 : answer.status;
  const words =
    answer.status === 401
      ? "Nothing was decided: this is done on your own behalf, and your sign-in is older than five minutes. Sign in again."
      : status === 400
        ? "Nothing was decided: say why, in 1 to 500 characters."
        : status === 403
          ? `Nothing was decided: you may not ${decision} this. Its grant asks somebody else, or the work is your own.`
          : status === 404
            ? "Nothing was decided: this approval is gone."
            : `Nothing was decided by you. ${detailOf(answer)}`;
  return { status, words, reason };
}

function detailOf({ json }: ApiAnswer): string {
  const read = problemShape.safeParse(json);
  return read.success ? (read.data.detail ?? `${read.data.title}.`) : "";
}

function pendingFirst(items: ApprovalPage["items"]): ApprovalPage["items"] {
  return [...items.filter(({ status }) => status === "pending"), ...items.filter(({ status }) => status !== "pending")];
}

/** Approvals as cards, each a link to all of it. */
export function listed(items: ApprovalPage["items"], o: { at: (path: string) => string; nowMs: number }): Part {
  if (items.length === 0) return undefined;
  return html`<ul class="cards">
    ${items.map((item) => card(item, o))}
  </ul>`;
}

function card(
  of: ApprovalPage["items"][number],
  { at, nowMs }: { at: (path: string) => string; nowMs: number },
): Markup {
  const left = Math.floor((Date.parse(of.expires_at) - nowMs) / 1_000);
  return html`<li>
    <p>
      <span class="state ${of.status}">${of.status}</span>
      <a href="${at(`/console/approvals/${of.id}`)}">${of.agent} → ${of.resource}: ${foreign(of.action)}</a>
    </p>
    <p class="soft">
      for ${foreign(of.sub)}, asked at ${moment(of.created_at)}${of.status === "pending" && `, ${span(left)} left`}
    </p>
  </li>`;
}
