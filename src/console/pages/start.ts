import { html, type Part } from "../html.ts";
import { foreign } from "../hostile-text.ts";
import { moment, nameOf, proof } from "../layout.ts";
import { page, type Page, type Viewer } from "../page.ts";
import { listed, pendingOf } from "./approvals.ts";

/** Of those that wait, on the start page. */
const SHOWN = 10;

/** The start page, and what is known of who is signed in. */
export const startPages: readonly Page[] = [
  page({
    method: "GET",
    path: "/console",
    access: "signed-in",
    async handle({ viewer, at, request }) {
      const waiting = await pendingOf(viewer as Viewer, {});
      const count = waiting.items.length;
      const more = waiting.next !== undefined || count > SHOWN;
      return {
        kind: "page",
        title:
          count === 0 ? "Nothing waits for you" : `${waiting.next === undefined ? count : `${count} or more`} waiting`,
        main: html`<p>
            You are signed in ${(viewer as Viewer).kind === "key" ? "with the" : "as"}
            ${foreign(nameOf(viewer as Viewer))}.
            <a href="${at("/console/you")}">What you may do</a>
          </p>
          ${listed(waiting.items.slice(0, SHOWN), { at, nowMs: request.receivedAtMs })}
          ${more && html`<p><a href="${at("/console/approvals")}">All that wait</a></p>`}
          <p><a href="${at("/console/approvals")}?status=all">What was decided</a></p>`,
      };
    },
  }),
  page({
    method: "GET",
    path: "/console/you",
    access: "signed-in",
    handle({ viewer: given, at }) {
      const viewer = given as Viewer;
      return {
        kind: "page",
        title: "You",
        main: html`<dl>${facts(viewer)}</dl>
          <h2>Signing out</h2>
          <p>
            A session also ends half an hour after its last use, and when what it stands on ends: a replaced operator
            key, a removed operator, an issuer that is gone.
          </p>
          <div class="buttons">
            <form class="plain" method="post" action="${at("/console/sign-out")}">
              ${proof(viewer)}<button>Sign out here</button>
            </form>
            <form class="plain" method="post" action="${at("/console/sign-out")}">
              ${proof(viewer)}<button name="which" value="all">End all my sessions</button>
            </form>
          </div>`,
      };
    },
  }),
];

function facts(viewer: Viewer): Part {
  const rows: readonly (readonly [string, Part])[] = [
    ["Signed in as", foreign(nameOf(viewer))],
    ["In the ledger", html`<span class="id">${foreign(viewer.name)}</span>`],
    ["By", viewer.kind === "key" ? "the operator key" : html`the issuer ${viewer.person?.issuer ?? ""}`],
    [
      "May",
      viewer.kind === "key"
        ? "everything; it stands in for any owner, and decides no call whose grant asks somebody else"
        : rolesOf(viewer),
    ],
    ["Until", moment(new Date(viewer.expiresAt * 1_000).toISOString())],
  ];
  return rows.map(
    ([word, value]) =>
      html`<dt>${word}</dt>
        <dd>${value}</dd>`,
  );
}

function rolesOf({ operator }: Viewer): Part {
  return operator === undefined
    ? "decide calls made for you, where their grant asks you"
    : html`what the operator ${operator} may: see <code>operators</code> in the trust file`;
}
