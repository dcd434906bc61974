import { z } from "zod";
import type { Reason } from "../../core/oauth/reasons.ts";
import { createAttempts } from "../attempts.ts";
import { html, type Markup, type Part } from "../html.ts";
import { nextPage } from "../next.ts";
import { nothingHere, page, PageError, type Answer, type ConsolePorts, type Page } from "../page.ts";

/** Longest key, and longest address to go on to, that is looked at. */
const MAX_TEXT = 512;

/** From one place within a minute. */
const FAILURES = {
  /** A key has 256 bits: this spares the database, it is not what protects the key. */
  keys: 10,
  /** Anybody can begin a sign-in and end it with a code that he made up, each time with a request of ours to the issuer. */
  signIns: 30,
};

const nextShape = z.string().max(MAX_TEXT).optional();

/** Signing in and out. */
export function signInPages(): readonly Page[] {
  return [formPage, keyPage(), issuerPage, callbackPage(), signOutPage];
}

const formPage = page({
  method: "GET",
  path: "/console/sign-in",
  access: "anyone",
  query: z.strictObject({ next: nextShape }),
  handle: ({ query, viewer, at, ports }) =>
    viewer === undefined ? signInForm({ next: query.next, at, ports }) : { kind: "redirect", to: nextPage(query.next) },
});

function keyPage(): Page {
  const attempts = createAttempts(FAILURES.keys);
  return page({
    method: "POST",
    path: "/console/sign-in",
    access: "anyone",
    fields: z.strictObject({ key: z.string().max(MAX_TEXT).optional(), next: nextShape }),
    async handle({ fields, request, ports, at }) {
      const succeeded = attempts.begin(request.remoteAddress, request.receivedAtMs);
      if (succeeded === undefined) {
        ports.refused("rate_limited", request);
        throw new PageError(
          429,
          "Too many wrong keys",
          html`Wait a minute, then try again. The command line is not held up.`,
        );
      }
      // Pasted from a file, it brings its line end.
      const cookie = await ports.signInByKey((fields.key ?? "").trim(), request);
      if (cookie === undefined) return signInForm({ next: fields.next, at, ports, isWrong: true });
      succeeded();
      return { kind: "redirect", to: nextPage(fields.next), cookie };
    },
  });
}

/** A link and no form: `form-action 'self'` holds for where a form's answer leads, too. It changes nothing but a cookie. */
const issuerPage = page({
  method: "GET",
  path: "/console/sign-in/{issuer}",
  access: "anyone",
  query: z.strictObject({ next: nextShape, fresh: z.literal("yes").optional() }),
  async handle({ params, query, request, ports }) {
    const order = { issuer: params["issuer"] ?? "", next: nextPage(query.next), fresh: query.fresh === "yes" };
    const begun = await ports.beginSignIn(order, request);
    if (begun === undefined) throw nothingHere();
    return { kind: "away", ...begun };
  },
});

function callbackPage(): Page {
  const attempts = createAttempts(FAILURES.signIns);
  return page({
    method: "GET",
    path: "/console/callback",
    access: "anyone",
    isQueryForeign: true,
    async handle({ request, ports, at }) {
      const uncounted = attempts.begin(request.remoteAddress, request.receivedAtMs);
      if (uncounted === undefined) {
        ports.refused("rate_limited", request);
        throw new PageError(429, "Too many sign-ins failed", html`Wait a minute, then begin again here.`);
      }
      const { cookies, next, refusal } = await ports.completeSignIn(request);
      // What this browser did not begin asks nobody anything, and another site's page could make it send that.
      if (next !== undefined || refusal === "sign_in_state") uncounted();
      if (next === undefined) return refusedPage(refusal, { cookies, at });
      const to = at(nextPage(next));
      // Not by a redirect: the way here began at another site, and a strict cookie would stay at home.
      return {
        kind: "page",
        title: "You are signed in",
        main: html`<p><a href="${to}">Go on</a></p>`,
        refresh: to,
        cookies,
      };
    },
  });
}

const signOutPage = page({
  method: "POST",
  path: "/console/sign-out",
  access: "signed-in",
  fields: z.strictObject({ which: z.enum(["this", "all"]).optional() }),
  handle: async ({ fields, request, ports }) => ({
    kind: "redirect",
    to: "/console/sign-in",
    cookie: await ports.signOut(fields.which ?? "this", request),
  }),
});

const ADVICE: Partial<Record<Reason, string>> = {
  sign_in_state: "This browser did not begin that sign-in, or has lost what it was to remember. Begin again here.",
  sign_in_expired: "It took more than ten minutes.",
  replayed: "It was ended already: the page was loaded twice.",
  sign_in_mixed_up: "The answer came from another identity provider than the one you chose.",
  sign_in_refused:
    "The identity provider refused it. Its own log says why; the client id in the trust file may be wrong.",
  sign_in_too_old: "The identity provider did not ask you again who you are.",
  token_issuer_disabled: "Its issuer was changed or taken away meanwhile.",
  token_issuer_unreachable: "The identity provider does not answer. Try again in a moment.",
  killed: "Work on your behalf was stopped, and you with it. An operator can restore you.",
};

function refusedPage(
  refusal: Reason | undefined,
  { cookies, at }: { cookies: readonly string[]; at: (path: string) => string },
): Answer {
  const advice = (refusal && ADVICE[refusal]) ?? "What the identity provider sent cannot be taken.";
  return {
    kind: "page",
    status: refusal === "token_issuer_unreachable" ? 503 : 403,
    title: "You are not signed in",
    main: html`<p>${advice}</p>
      ${refusal !== undefined && html`<p class="soft">In the ledger: <code>${refusal}</code></p>`}
      <p><a href="${at("/console/sign-in")}">Sign in</a></p>`,
    cookies,
  };
}

function signInForm(o: {
  next: string | undefined;
  at: (path: string) => string;
  ports: ConsolePorts;
  isWrong?: boolean;
}): Answer {
  const { next, at, isWrong = false } = o;
  const issuers = o.ports.issuers();
  const query = next === undefined ? "" : `?next=${encodeURIComponent(nextPage(next))}`;
  return {
    kind: "page",
    status: isWrong ? 403 : 200,
    title: "Sign in",
    main: html`${isWrong && wrong()}
      ${
        issuers.length > 0 &&
        html`<ul class="buttons">
            ${issuers.map(
              (name) =>
                html`<li><a class="button" href="${at(`/console/sign-in/${name}`)}${query}">With ${name}</a></li>`,
            )}
          </ul>
          <h2>With the operator key</h2>`
      }
      <form class="sign-in" method="post" action="${at("/console/sign-in")}">
        ${goOn(next)}
        <label for="key">Operator key</label>
        <p class="hint" id="key-hint">
          It begins with <code>ephor_op_</code> and is in the data folder, in <code>operator-key</code>, unless your
          configuration names another file. Whoever has it may do everything.
        </p>
        <input
          id="key"
          name="key"
          type="password"
          required
          ${issuers.length === 0 && html`autofocus`}
          autocomplete="off"
          autocapitalize="none"
          spellcheck="false"
          maxlength="${MAX_TEXT}"
          aria-describedby="key-hint"
          ${isWrong && html`aria-invalid="true"`}
        />
        <div class="buttons"><button class="yes">Sign in</button></div>
      </form>`,
  };
}

function wrong(): Markup {
  return html`<p class="notice bad" role="alert">
    <strong>That key does not open this console.</strong> It may have been replaced, or belong to another deployment:
    <code>ephor doctor</code> tells which file is read.
  </p>`;
}

function goOn(wanted: string | undefined): Part {
  return wanted !== undefined && html`<input type="hidden" name="next" value="${nextPage(wanted)}" />`;
}
