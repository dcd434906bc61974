import type { ExactCall } from "../approvals/content.ts";
import type { ProxiedRequest } from "./exchange.ts";
import { exactHttp } from "./exact-call.ts";
import { bearerOf, type CallContent } from "./recording.ts";
import type { ChangedCall } from "./sent-call.ts";

/** What an HTTP call says beyond its target. */
export interface HttpSaid {
  readonly request: Pick<ProxiedRequest, "method" | "path" | "presented">;
  /** As it is sent. */
  readonly query: string | undefined;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;
  /** The body as it was read; undefined: there is none. */
  readonly value: unknown;
}

/** The arguments of a call, for whoever keeps or inspects them. @param unread the media type of a body that was not read */
export function httpContent({ request, parameters, value }: HttpSaid, unread: string | undefined): CallContent {
  const args = { query: parameters, ...(value !== undefined && { body: value }) };
  return { arguments: args, unread, bearer: bearerOf(request) };
}

/**
 * A call that says something else: what is decided on, shown, kept and sent of it.
 *
 * @param changed `{query, body}`, as an inspector left it
 * @returns undefined where no query or body can say that
 */
export function saidOtherwise(said: HttpSaid, changed: unknown): ChangedCall | undefined {
  if (!isRecord(changed) || !isRecord(changed["query"])) return undefined;
  const { query: parameters, body: value } = changed;
  const isSame = JSON.stringify(parameters) === JSON.stringify(said.parameters);
  const query = isSame ? { text: said.query } : queryOf(parameters);
  if (query === undefined) return undefined;
  const body = value === undefined ? undefined : JSON.stringify(value);
  const other: HttpSaid = { ...said, query: query.text, parameters, value };
  const { method, path } = said.request;
  return {
    args: { ...parameters, ...(value === undefined ? {} : isRecord(value) ? value : { body: value }) },
    exact: (): ExactCall => exactHttp({ method, path, query: query.text, headers: said.headers, body }),
    content: () => httpContent(other, undefined),
    sends: { query: query.text, body },
  };
}

function queryOf(parameters: Readonly<Record<string, unknown>>): { text: string } | undefined {
  const pairs = Object.entries(parameters).flatMap(([name, values]) =>
    (Array.isArray(values) ? values : [values]).map((value: unknown) => [name, value] as const),
  );
  if (pairs.some(([, value]) => typeof value !== "string")) return undefined;
  return { text: pairs.map((pair) => pair.map((text) => encodeURIComponent(String(text))).join("=")).join("&") };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
