import { z } from "zod";
import type { PageAnswer, PageRequest } from "../api/pages.ts";
import { OAuthError } from "../core/oauth/errors.ts";
import { checkContentType, readForm, type Form } from "../core/oauth/form.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { isFromElsewhere, isFromOurPage } from "../core/same-site.ts";
import { html } from "./html.ts";
import { layout } from "./layout.ts";
import { createPages } from "./pages.ts";
import {
  nothingHere,
  PageError,
  type Answer,
  type ConsolePorts,
  type Page,
  type RefusalReason,
  type Viewer,
} from "./page.ts";
import { STYLE_VERSION } from "./pages/files.ts";

/** The console. */
export interface Console {
  /** Answers a request below `/console`. Throws only what is a bug, or the client's going away. */
  handle(request: PageRequest): Promise<PageAnswer>;
  /** What is answered when it threw. */
  failed(requestId: string): PageAnswer;
}

/** Nothing runs, nothing is framed, nothing is fetched or sent but from and to ourselves (INV-28). */
export const CONSOLE_POLICY =
  "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/** Longest proof that is looked at. */
const proofShape = z.string().min(1).max(100);

/**
 * Builds the console.
 *
 * @param deps.basePath path of the issuer, empty for most
 * @param deps.origin of the issuer
 */
export function createConsole(deps: {
  readonly basePath: string;
  readonly origin: string;
  readonly ports: ConsolePorts;
}): Console {
  const at = (path: string): string => `${deps.basePath}${path}`;
  const pages = createPages();
  const house = { ...deps, at };
  return {
    async handle(request) {
      let viewer: Viewer | undefined;
      try {
        const { page, params } = found(pages, request);
        if (page.method === "POST") checkOrigin(request, house);
        viewer = page.isFile === true ? undefined : await deps.ports.find(request);
        if (page.access === "signed-in" && viewer === undefined) return written(unknown(request, house), house, viewer);
        const fields =
          page.method === "POST" ? await readFields(page, request, { viewer, ports: deps.ports }) : undefined;
        // A form may take its time; whoever was signed out or changed meanwhile decides nothing by it.
        if (fields !== undefined && page.access === "signed-in") viewer = await deps.ports.find(request);
        if (page.access === "signed-in" && viewer === undefined) return written(unknown(request, house), house, viewer);
        const query = readQuery(page, request, deps.ports);
        return written(
          await page.handle({ params, query, fields, viewer, request, ports: deps.ports, at }),
          house,
          viewer,
        );
      } catch (thrown) {
        if (thrown instanceof MethodError) deps.ports.refused("method_not_allowed", request);
        const face = faceOf(thrown);
        if (face === undefined) throw thrown;
        if (thrown instanceof OAuthError) deps.ports.refused(thrown.reason as RefusalReason, request);
        const { status, headers, ...rest } = written(errorPage(face, at), house, viewer);
        return {
          ...rest,
          status,
          headers: thrown instanceof MethodError ? { ...headers, Allow: thrown.allow } : headers,
        };
      }
    },
    failed: (requestId) =>
      written(
        errorPage(
          new PageError(
            500,
            "Something went wrong",
            html`Nothing was decided by this request unless the approval's page says so. Try again; if it stays, the log
              has the cause under <code>${requestId}</code>.`,
          ),
          at,
        ),
        house,
        undefined,
      ),
  };
}

interface House {
  readonly origin: string;
  readonly ports: ConsolePorts;
  readonly at: (path: string) => string;
}

/** A page is there, and does not take this method. */
class MethodError extends PageError {
  readonly allow: string;

  constructor(allow: string) {
    super(405, "This page does not take that", html`Go back and use its links and buttons.`);
    this.allow = allow;
  }
}

/** @throws {PageError} 404, 405 */
function found(pages: readonly Page[], { method, path }: PageRequest): { page: Page; params: Record<string, string> } {
  const wanted = method === "HEAD" ? "GET" : method;
  const there = pages.flatMap((page) => {
    const params = matched(page.path, path);
    return params === undefined ? [] : [{ page, params }];
  });
  const hit = there.find(({ page }) => page.method === wanted);
  if (hit !== undefined) return hit;
  if (there.length === 0) throw nothingHere();
  throw new MethodError(there.flatMap(({ page }) => (page.method === "GET" ? ["GET", "HEAD"] : ["POST"])).join(", "));
}

/** Values of the names in braces: one segment each, of characters that our ids have. */
function matched(pattern: string, path: string): Record<string, string> | undefined {
  const [wanted, given] = [pattern.split("/"), path.split("/")];
  if (wanted.length !== given.length) return undefined;
  const params: Record<string, string> = {};
  for (const [i, part] of wanted.entries()) {
    const name = /^\{(\w+)\}$/.exec(part)?.[1];
    const value = given[i] ?? "";
    if (name === undefined ? part !== value : !/^[A-Za-z0-9_-]{1,64}$/.test(value)) return undefined;
    if (name !== undefined) params[name] = value;
  }
  return params;
}

/** @throws {PageError} 403: another site's page sent it, or no browser did */
function checkOrigin(request: PageRequest, { origin, ports }: House): void {
  if (isFromOurPage(request, origin)) return;
  ports.refused("form_forged", request);
  throw new PageError(
    403,
    "That did not come from this console",
    html`Open the page here and use its own form. Programs use <code>/v1</code>.`,
  );
}

/** What somebody gets who is not signed in. */
function unknown(request: PageRequest, { at, ports }: House): Answer {
  if (request.method === "POST") {
    ports.refused("session_missing", request);
    throw new PageError(
      403,
      "You are signed out",
      html`Nothing was done. <a href="${at("/console/sign-in")}">Sign in</a> and decide again.`,
    );
  }
  // The cookie stays at home when a link of another site is followed; from a page of ours it comes along.
  if (isFromElsewhere(request)) {
    const here = at(request.path) + (request.query === undefined ? "" : `?${request.query}`);
    return {
      kind: "page",
      title: "One moment",
      main: html`<p><a href="${here}">Go on to the page</a></p>`,
      refresh: here,
    };
  }
  return { kind: "redirect", to: `/console/sign-in?next=${encodeURIComponent(request.path)}` };
}

/** @throws {PageError} 400, 403; {InvalidRequestError} for a body that is no form */
async function readFields(
  { fields, access }: Page,
  request: PageRequest,
  { viewer, ports }: { viewer: Viewer | undefined; ports: ConsolePorts },
): Promise<unknown> {
  checkContentType(request.contentType);
  const form = readForm(await request.read(), { repeatable: [], maxParameters: 16 });
  if (access === "signed-in") {
    const proof = proofShape.safeParse(form.get("csrf"));
    if (!proof.success || viewer?.isOurForm(proof.data) !== true) {
      ports.refused("form_forged", request, viewer?.name);
      throw new PageError(
        403,
        "This form is from an earlier sign-in",
        html`Nothing was done. Go back, load the page again and decide there.`,
      );
    }
  }
  return shaped(fields ?? z.strictObject({}), without(form, "csrf"), { request, ports });
}

/** Members of a form; one that is empty counts as not sent. */
function without(form: Form, name: string): Record<string, string> {
  return Object.fromEntries([...form.names()].filter((one) => one !== name).map((one) => [one, form.get(one) ?? ""]));
}

/** @throws {PageError} 400 */
function readQuery({ query, isQueryForeign }: Page, request: PageRequest, ports: ConsolePorts): unknown {
  if (isQueryForeign === true) return undefined;
  const text = request.query ?? "";
  const form = readForm(new TextEncoder().encode(text), { repeatable: [], maxParameters: 16 });
  return shaped(query ?? z.strictObject({}), without(form, ""), { request, ports });
}

function shaped(shape: z.ZodType, value: unknown, at: { request: PageRequest; ports: ConsolePorts }): unknown {
  const read = shape.safeParse(value);
  if (read.success) return read.data;
  at.ports.refused("parameter_invalid", at.request);
  throw new PageError(
    400,
    "That cannot be read",
    html`The address or the form has something that this page does not know.`,
  );
}

/** @returns undefined for what is no refusal */
function faceOf(thrown: unknown): PageError | undefined {
  if (thrown instanceof PageError) return thrown;
  if (!(thrown instanceof OAuthError)) return undefined;
  const titles: Partial<Record<Reason, string>> = {
    content_type: "That was not a form of this console",
    body_too_large: "That was too long",
    parameter_repeated: "A field was sent twice",
    database_unreachable: "Ephor cannot reach its database",
  };
  const advice =
    thrown.status === 503
      ? html`Nothing was decided. Try again in a moment.`
      : html`Nothing was done. Go back, load the page again and use its own form.`;
  return new PageError(thrown.status, titles[thrown.reason] ?? "That could not be done", advice);
}

function errorPage({ status, title, advice }: PageError, at: House["at"]): Answer {
  return {
    kind: "page",
    status,
    title,
    main: html`<p>${advice}</p>
      <p><a href="${at("/console")}">To the start page</a></p>`,
  };
}

function written(answer: Answer, { at }: Pick<House, "at">, viewer: Viewer | undefined): PageAnswer {
  const safe = {
    "Content-Security-Policy": CONSOLE_POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
  };
  if (answer.kind === "redirect") {
    const cookies = answer.cookie === undefined ? {} : { "Set-Cookie": answer.cookie };
    return { status: 303, headers: { ...safe, Location: at(answer.to), ...cookies }, body: "" };
  }
  if (answer.kind === "away") {
    const { location, cookie } = answer;
    return { status: 303, headers: { ...safe, Location: location, "Set-Cookie": cookie }, body: "" };
  }
  if (answer.kind === "file") {
    const headers = { ...safe, "Content-Type": answer.type, "Cache-Control": "public, max-age=86400" };
    return { status: 200, headers, body: answer.text };
  }
  const { status = 200, title, main, refresh, cookies } = answer;
  const body = layout({ title, main, viewer, at, version: STYLE_VERSION, refresh });
  return {
    status,
    headers: { ...safe, "Content-Type": "text/html; charset=utf-8", ...(cookies && { "Set-Cookie": cookies }) },
    body,
  };
}
