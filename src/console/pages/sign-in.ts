import { z } from "zod";
import { createAttempts } from "../attempts.ts";
import { html, type Markup, type Part } from "../html.ts";
import { nextPage } from "../next.ts";
import { page, PageError, type Answer, type Page } from "../page.ts";

/** Longest key, and longest address to go on to, that is looked at. */
const MAX_TEXT = 512;

const nextShape = z.string().max(MAX_TEXT).optional();

/** Signing in and out. */
export function signInPages(): readonly Page[] {
  const attempts = createAttempts();
  return [
    page({
      method: "GET",
      path: "/console/sign-in",
      access: "anyone",
      query: z.strictObject({ next: nextShape }),
      handle: ({ query, viewer, at }) =>
        viewer === undefined ? form({ next: query.next, at }) : { kind: "redirect", to: nextPage(query.next) },
    }),
    page({
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
        if (cookie === undefined) return form({ next: fields.next, at, isWrong: true });
        succeeded();
        return { kind: "redirect", to: nextPage(fields.next), cookie };
      },
    }),
    page({
      method: "POST",
      path: "/console/sign-out",
      access: "signed-in",
      fields: z.strictObject({ which: z.enum(["this", "all"]).optional() }),
      handle: async ({ fields, request, ports }) => ({
        kind: "redirect",
        to: "/console/sign-in",
        cookie: await ports.signOut(fields.which ?? "this", request),
      }),
    }),
  ];
}

function form(o: { next: string | undefined; at: (path: string) => string; isWrong?: boolean }): Answer {
  return {
    kind: "page",
    status: o.isWrong === true ? 403 : 200,
    title: "Sign in",
    main: html`${o.isWrong === true && wrong()}
      <form class="sign-in" method="post" action="${o.at("/console/sign-in")}">
        ${next(o.next)}
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
          autofocus
          autocomplete="off"
          autocapitalize="none"
          spellcheck="false"
          maxlength="${MAX_TEXT}"
          aria-describedby="key-hint"
          ${o.isWrong === true && html` aria-invalid="true"`}
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

function next(wanted: string | undefined): Part {
  return wanted !== undefined && html`<input type="hidden" name="next" value="${nextPage(wanted)}" />`;
}
