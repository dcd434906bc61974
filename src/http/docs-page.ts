import { createHash } from "node:crypto";
import { html, raw } from "hono/html";
import type { HtmlEscapedString } from "hono/utils/html";

type Json = { readonly [name: string]: unknown };
type Markup = HtmlEscapedString | Promise<HtmlEscapedString> | string;

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e3e6ea); --soft: light-dark(#59636e, #9aa4af);
  --paper: light-dark(#ffffff, #14171b); --raised: light-dark(#f5f6f8, #1c2026); --line: light-dark(#d8dde3, #31373f);
  --get: light-dark(#0a5ea8, #6cb4f5); --post: light-dark(#12713d, #5ecb8d); --put: light-dark(#8a5300, #e0aa4f); --delete: light-dark(#b3261e, #f28b82); }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 5rem; }
h1 { font-size: 2rem; margin: 0 0 .25rem; } h2 { margin: 2.75rem 0 .25rem; font-size: 1.3rem; }
h3 { font-size: .95rem; margin: 1.1rem 0 .35rem; }
p { margin: .35rem 0; } .soft { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: .35rem 1rem; list-style: none; padding: 0; } a { color: var(--get); }
code, pre { font: .875em/1.5 ui-monospace, monospace; } code { overflow-wrap: anywhere; }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: 6px; padding: .75rem; overflow: auto; max-height: 32rem; }
details { border: 1px solid var(--line); border-radius: 8px; margin: .5rem 0; background: var(--raised); }
details > div { padding: 0 1rem 1rem; border-top: 1px solid var(--line); background: var(--paper); border-radius: 0 0 8px 8px; }
summary { cursor: pointer; padding: .55rem 1rem; display: flex; gap: .75rem; align-items: baseline; flex-wrap: wrap; }
summary:focus-visible { outline: 2px solid var(--get); outline-offset: 2px; border-radius: 8px; }
.method { font: 700 .8rem ui-monospace, monospace; min-width: 3.6rem; }
.get { color: var(--get); } .post { color: var(--post); } .put { color: var(--put); } .delete { color: var(--delete); }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
`;

const styleHash = createHash("sha256").update(STYLE).digest("base64");

/** Nothing runs, nothing is fetched, nobody frames it: the one style sheet is in the page, by its digest. */
export const DOCS_POLICY = `default-src 'none'; style-src 'sha256-${styleHash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

/**
 * The OpenAPI document as one page that needs no script. Everything in it is escaped, although all of it is ours.
 *
 * @param document made by `openApiDocument`
 */
export function docsPage(document: object): string {
  const doc = document as Json;
  const info = doc["info"] as Json;
  const tags = doc["tags"] as readonly { name: string; description: string }[];
  const operations = operationsOf(doc);
  const schemas = Object.entries((doc["components"] as { schemas: Record<string, Json> }).schemas);
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${info["title"]} API</title>
        ${raw(`<style>${STYLE}</style>`)}
      </head>
      <body>
        <main>
          <h1>${info["title"]} API</h1>
          <p>${info["summary"]}</p>
          <p class="soft">
            Version ${info["version"]}. ${prose(String(info["description"]))}
            <a href="openapi.json">OpenAPI 3.1 document</a>
          </p>
          <nav aria-label="Sections">
            <ul>
              ${tags.map(({ name }) => html`<li><a href="#${name}">${name}</a></li>`)}
              <li><a href="#schemas">Shapes</a></li>
            </ul>
          </nav>
          ${tags.map(({ name, description }) => section(name, { description, operations }))}
          <h2 id="schemas">Shapes</h2>
          ${schemas.map(
            ([name, schema]) =>
              html`<details id="schema-${name}">
                <summary><code>${name}</code></summary>
                <div>${source(schema)}</div>
              </details>`,
          )}
        </main>
      </body>
    </html> `;
  return String(page);
}

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly spec: Json;
}

function operationsOf(doc: Json): Operation[] {
  return Object.entries(doc["paths"] as Record<string, Record<string, Json>>).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, spec]) => ({ method, path, spec })),
  );
}

function section(
  tag: string,
  { description, operations }: { description: string; operations: readonly Operation[] },
): Markup {
  const own = operations.filter(({ spec }) => (spec["tags"] as readonly string[]).includes(tag));
  return html`<section>
    <h2 id="${tag}">${tag}</h2>
    <p class="soft">${description}</p>
    ${own.map(entry)}
  </section>`;
}

function entry({ method, path, spec }: Operation): Markup {
  const parameters = (spec["parameters"] ?? []) as readonly Json[];
  const body = (spec["requestBody"] as { content: Record<string, { schema: Json }> } | undefined)?.content;
  const answers = Object.entries(spec["responses"] as Record<string, Json>);
  return html`<details id="${spec["operationId"]}">
    <summary>
      <span class="method ${method}">${method.toUpperCase()}</span> <code>${path}</code>
      <span class="soft">${spec["summary"]}</span>
    </summary>
    <div>
      ${spec["description"] === undefined ? "" : html`<p>${prose(String(spec["description"]))}</p>`}
      <p>Who: ${whoMay(spec["security"] as readonly Json[])}</p>
      ${
        parameters.length === 0
          ? ""
          : html`<h3>Parameters</h3>
              <table>
                ${parameters.map(parameterRow)}
              </table>`
      }
      ${
        body === undefined
          ? ""
          : Object.entries(body).map(
              ([type, { schema }]) =>
                html`<h3>Body, <code>${type}</code></h3>
                  ${shape(schema)}`,
            )
      }
      <h3>Answers</h3>
      <table>
        ${answers.map(answerRow)}
      </table>
    </div>
  </details>`;
}

function whoMay(security: readonly Json[]): Markup {
  if (security.length === 0) return "anybody";
  const names = security.map((scheme) => {
    const [name, scopes] = Object.entries(scheme)[0] ?? [];
    if (name === "operator") return html`an operator`;
    if (name === "agent") return html`an agent`;
    if (name === "token") return html`a token with <code>${(scopes as readonly string[]).join(" ")}</code>`;
    return name === undefined ? html`or as the form proves it` : html`a client`;
  });
  return html`${names.map((name, i) => (i === 0 ? name : html`, ${name}`))}`;
}

function parameterRow({ name, in: where, required, description, schema }: Json): Markup {
  const limits = schema as Json;
  const kind =
    limits["enum"] === undefined ? String(limits["type"] ?? "") : (limits["enum"] as readonly string[]).join(" | ");
  return html`<tr>
    <td><code>${name}</code></td>
    <td class="soft">${where}${required === true ? ", required" : ""}</td>
    <td>${kind}</td>
    <td>${description ?? ""}</td>
  </tr>`;
}

function answerRow([status, spec]: [string, Json]): Markup {
  const content = Object.entries((spec["content"] ?? {}) as Record<string, { schema: Json }>);
  return html`<tr>
    <td><code>${status}</code></td>
    <td>${prose(String(spec["description"]))}</td>
    <td>${content.map(([type, { schema }]) => html`<code class="soft">${type}</code> ${shape(schema)}`)}</td>
  </tr>`;
}

function shape(schema: Json): Markup {
  const name = /^#\/components\/schemas\/(.+)$/.exec(String(schema["$ref"] ?? ""))?.[1];
  if (name !== undefined) return html`<a href="#schema-${name}">${name}</a>`;
  return schema["type"] === "string" ? "" : source(schema);
}

function source(schema: Json): Markup {
  return html`<pre tabindex="0">${JSON.stringify(schema, null, 2)}</pre>`;
}

/** Text with \`code\` in backticks. */
function prose(text: string): Markup {
  return html`${text.split("`").map((part, i) => (i % 2 === 0 ? part : html`<code>${part}</code>`))}`;
}
