import { html, type Markup, type Part } from "./html.ts";
import { foreign } from "./hostile-text.ts";
import type { Viewer } from "./page.ts";

/** What every page stands in. */
export interface Frame {
  readonly title: string;
  readonly main: Markup;
  readonly viewer: Viewer | undefined;
  readonly at: (path: string) => string;
  /** Of the style sheet, so that a new one is not taken for the old. */
  readonly version: string;
  /** Goes there by itself, at once. */
  readonly refresh?: string | undefined;
}

/** One page, whole. */
export function layout({ title, main, viewer, at, version, refresh }: Frame): string {
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="robots" content="noindex" />
        ${refresh !== undefined && html`<meta http-equiv="refresh" content="0; url=${refresh}" />`}
        <title>${title} · Ephor</title>
        <link rel="stylesheet" href="${at("/console/style.css")}?v=${version}" />
        <link rel="icon" type="image/svg+xml" href="${at("/console/icon.svg")}" />
      </head>
      <body>
        <a class="skip" href="#main">To the content</a>
        <header>
          <div>
            <a class="brand" href="${at("/console")}">Ephor</a>
            ${viewer !== undefined && navigation(viewer, at)}
          </div>
        </header>
        <main id="main">
          <h1>${title}</h1>
          ${main}
        </main>
        <footer><p>Times are UTC, by Ephor's clock.</p></footer>
      </body>
    </html> `;
  return page.toString();
}

function navigation(viewer: Viewer, at: Frame["at"]): Markup {
  return html`<nav aria-label="Console">
      <ul>
        <li><a href="${at("/console/approvals")}">Approvals</a></li>
        <li><a href="${at("/console/you")}">You</a></li>
      </ul>
    </nav>
    <span class="who">${foreign(nameOf(viewer))}</span>
    <form class="plain" method="post" action="${at("/console/sign-out")}">
      ${proof(viewer)}<button>Sign out</button>
    </form>`;
}

/** How a viewer is called on the pages. */
export function nameOf({ kind, operator, person }: Viewer): string {
  if (kind === "key") return "operator key";
  return operator ?? person?.sub ?? "";
}

/** What makes a form one of ours. */
export function proof({ csrf }: Viewer): Markup {
  return html`<input type="hidden" name="csrf" value="${csrf}" />`;
}

/** A moment, as people read it and as machines do. */
export function moment(instant: string): Part {
  const at = new Date(instant);
  if (Number.isNaN(at.getTime())) return foreign(instant);
  const iso = at.toISOString();
  return html`<time datetime="${iso}" class="nowrap">${iso.slice(0, 10)} ${iso.slice(11, 19)}</time>`;
}

/** How far away something is, in the largest unit that says enough. @param seconds not negative */
export function span(seconds: number): string {
  if (seconds < 90) return `${Math.max(0, Math.floor(seconds))} seconds`;
  if (seconds < 5_400) return `${Math.floor(seconds / 60)} minutes`;
  return `${Math.floor(seconds / 3_600)} hours`;
}
