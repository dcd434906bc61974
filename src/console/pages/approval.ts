import type { ApprovalView } from "../../api/approvals.ts";
import { html, type Markup, type Part } from "../html.ts";
import { alarmed, foreign } from "../hostile-text.ts";
import { jsonText } from "../json-text.ts";
import { moment, proof, span } from "../layout.ts";
import type { Viewer } from "../page.ts";
import type { Earlier } from "./earlier.ts";

/** What is said above the form after a decision that was refused. */
export interface Said {
  readonly status: number;
  readonly words: string;
  /** What the reader had written. */
  readonly reason: string;
}

/** What else a page of one approval is made of. */
export interface Around {
  readonly viewer: Viewer;
  readonly at: (path: string) => string;
  readonly nowSeconds: number;
  readonly said: Said | undefined;
  readonly earlier: Earlier | undefined;
}

const STATES: Readonly<Record<ApprovalView["status"], string>> = {
  pending: "It is not forwarded before it is approved.",
  approved: "The same call, made again, passes once.",
  denied: "The call was not forwarded, and will not be.",
  used: "The call was forwarded once. The next one is asked for anew.",
  expired: "Nobody decided in time. The call has to be made again.",
  void: "The work was ended or killed, or what the call hangs on was changed, since it was asked for. The call has to be made again.",
};

/** Everything about one approval: first what Ephor states, then, set apart, what the agent wrote, last the decision. */
export function approvalMain(of: ApprovalView, around: Around): Markup {
  const { nowSeconds, said, earlier } = around;
  return html`${said !== undefined && html`<p class="notice bad" role="alert">${said.words}</p>`}
    <p><span class="state ${of.status}">${of.status}</span> ${STATES[of.status]}</p>
    ${of.decisions.length > 0 && decisions(of)}
    <h2>What Ephor states</h2>
    <dl>${stated(of, nowSeconds)}</dl>
    ${earlier !== undefined && compared(earlier, around)}
    <h2>What would be called</h2>
    ${called(of)}
    ${of.status === "pending" ? decide(of, around) : html`<p><a href="${around.at("/console/approvals")}">What waits</a></p>`}`;
}

function stated(of: ApprovalView, nowSeconds: number): Part {
  const left = Math.floor(Date.parse(of.expires_at) / 1_000) - nowSeconds;
  const rows: readonly (readonly [string, Part])[] = [
    [
      "Asks",
      html`the agent
        <strong>${of.agent}</strong>${of.owner !== undefined && html`, whose owner is ${foreign(of.owner)}`}`,
    ],
    ["On behalf of", foreign(of.sub)],
    ["Through", of.path.join(" → ")],
    ["At", html`the resource <strong>${of.resource}</strong>, action ${foreign(of.action)}`],
    ["Approval by", of.needs.map((need) => html`<div>${neededBy(need)}</div>`)],
    ["Asked", moment(of.created_at)],
    ["Until", html`${moment(of.expires_at)}${of.status === "pending" && ` (${span(left)} left), decided and used`}`],
    ["Task", html`<span class="id">${of.txn}</span>`],
    ["Digest of the arguments", html`<span class="id">${of.args_digest}</span>`],
  ];
  return rows.map(
    ([word, value]) =>
      html`<dt>${word}</dt>
        <dd>${value}</dd>`,
  );
}

function neededBy({ grant, by, count }: ApprovalView["needs"][number]): Markup {
  const names = by.map((approver) =>
    typeof approver === "string"
      ? approver === "owner"
        ? "the agent's owner"
        : "the human whose work it is"
      : "agent" in approver
        ? `the agent ${approver.agent}`
        : `the group ${approver.group}`,
  );
  return html`${count === 1 ? "" : `${count} of `}${names.join(" or ")} (grant ${grant})`;
}

function decisions({ decisions: all }: ApprovalView): Markup {
  return html`<h2>Decisions</h2>
    <dl>
      ${all.map(
        ({ by, decision, reason, at }) => html`<dt>${decision === "approve" ? "Approved" : "Denied"}</dt>
          <dd>by ${foreign(by)} at ${moment(at)}: “${foreign(reason)}”</dd>`,
      )}
    </dl>`;
}

/** Whatever is in here was written by the agent, or by whoever wrote to it. */
function called(of: ApprovalView): Markup {
  const call = jsonText(of.call);
  const given = jsonText(of.arguments ?? null);
  const alarms = {
    unseen: call.alarms.unseen + given.alarms.unseen,
    lookalikes: call.alarms.lookalikes + given.alarms.lookalikes,
  };
  const purpose = of.purpose === undefined ? undefined : foreign(of.purpose, alarms);
  return html`${alarmed(alarms)}
    <section class="theirs" aria-label="Written by the agent">
      <p class="label">Written by ${of.agent}. Ephor has not checked that any of it is true.</p>
      ${
        purpose !== undefined &&
        html`<h3>What it says that it is for</h3>
          <p>${purpose}</p>`
      }
      <h3>Call</h3>
      ${call.markup}
      <h3>Arguments</h3>
      <p class="soft">Whole: ${given.characters} characters of canonical JSON.</p>
      ${given.markup}
    </section>`;
}

function compared({ approval, changes, isCut }: Earlier, { at }: Around): Markup {
  const link = html`<a href="${at(`/console/approvals/${approval.id}`)}">the last one that was approved</a>`;
  if (changes.length === 0)
    return html`<h2>What is new</h2>
      <p>The call and its arguments are those of ${link}, to the letter. It was made by other work, or once more.</p>`;
  return html`<h2>What is new</h2>
    <p>Against ${link}, at ${moment(approval.created_at)}:</p>
    <div class="theirs">
      <p class="label">Places that the agent filled otherwise${isCut && ` (the first ${changes.length})`}</p>
      <table class="changes">
        <thead>
          <tr>
            <th scope="col">Where</th>
            <th scope="col">Then</th>
            <th scope="col">Now</th>
          </tr>
        </thead>
        <tbody>
          ${changes.map(
            (change) =>
              html`<tr>
                <td data-what="Where">${foreign(change.where)}</td>
                <td data-what="Then">${side(change, "before")}</td>
                <td data-what="Now">${side(change, "now")}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
}

/** Characters of a value that is told on the spot; a longer one is where the whole call is. */
const TOLD = 400;

function side(change: Earlier["changes"][number], which: "before" | "now"): Part {
  if (!(which in change)) return "nothing";
  const { markup, characters } = jsonText(change[which]);
  if (characters <= TOLD) return markup;
  return `${characters} characters, whole ${which === "now" ? "below" : "on its own page"}`;
}

/** Seconds within which a human must have signed in to approve what is done for him (CONTRACT §8). */
const FRESH_SECONDS = 300;

/** What the page can tell about who decides; the API judges anew, by more than is known here. */
function standingOf(of: ApprovalView, { viewer, nowSeconds, at }: Around): { mayApprove: boolean; advice?: Part } {
  const asks = (whom: "owner" | "self"): boolean => of.needs.some(({ by }) => by.includes(whom));
  const { person } = viewer;
  if (person === undefined)
    return asks("owner")
      ? { mayApprove: true }
      : { mayApprove: false, advice: "Its grant asks no owner, for whom the operator key stands in: you may deny it." };
  if (person.sub !== of.sub) return { mayApprove: true };
  if (!asks("self"))
    return {
      mayApprove: false,
      advice: "This is done on your own behalf, so somebody else approves it: you may deny it.",
    };
  const { authTime } = person;
  if (authTime !== undefined && nowSeconds - authTime < FRESH_SECONDS) return { mayApprove: true };
  const again = `${at(`/console/sign-in/${person.issuer}`)}?fresh=yes&next=${encodeURIComponent(`/console/approvals/${of.id}`)}`;
  return {
    mayApprove: false,
    advice: html`This is done on your own behalf: to approve it, <a href="${again}">sign in again</a>, so that it is
      sure to be you. It counts for five minutes.`,
  };
}

function decide(of: ApprovalView, around: Around): Markup {
  const { viewer, at, said } = around;
  const { mayApprove, advice } = standingOf(of, around);
  return html`<h2>Your decision</h2>
    <form class="decide" method="post" action="${at(`/console/approvals/${of.id}`)}">
      ${proof(viewer)}
      <button disabled hidden>Enter decides nothing</button>
      <label for="reason">Why</label>
      <p class="hint" id="reason-hint">
        Needed. It goes into the ledger and is shown to whoever looks at this; name no secret.
      </p>
      <input
        id="reason"
        name="reason"
        type="text"
        required
        maxlength="500"
        autocomplete="off"
        aria-describedby="reason-hint"
        value="${said?.reason ?? ""}"
      />
      ${advice !== undefined && html`<p class="notice">${advice}</p>`}
      <div class="buttons">
        ${mayApprove && html`<button class="yes" name="decision" value="approve">Approve once</button>`}
        <button class="no" name="decision" value="deny">Deny</button>
      </div>
    </form>`;
}
