import type { IncomingMessage, ServerResponse } from "node:http";
import type { PageAnswer, PageRequest } from "../api/pages.ts";
import type { Clock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { ClientGoneError, discardBody, readBody } from "./body.ts";
import type { InProcess } from "./in-process.ts";
import { LIMITS } from "./limits.ts";
import { headerText, lazySignal } from "./request.ts";
import type { Addresses, NodeHandler, RequestTarget } from "./request.ts";

/** Who makes the pages. `http` does not know the console, nor the console `http`. */
export interface PageMaker {
  handle(request: PageRequest): Promise<PageAnswer>;
  failed(requestId: string): PageAnswer;
}

/** Makes the maker, given `/v1` to call in process. */
export type PageMakerOf = (api: InProcess) => PageMaker;

/** What the pages are served from. */
export interface PagesDeps {
  readonly maker: PageMaker;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly addresses: Addresses;
  readonly nextRequestId: () => string;
  /** On every answer, unless the maker says otherwise. */
  readonly headers: Readonly<Record<string, string>>;
}

/** The label of every page in metrics. */
const ROUTE = "/console";

/** The handler of the operator's pages. @returns undefined for every other path */
export function createPages(deps: PagesDeps): (path: string) => NodeHandler | undefined {
  return (path) => {
    if (path !== ROUTE && !path.startsWith(`${ROUTE}/`)) return undefined;
    return (req, res, target) => void serve(deps, { req, res, target });
  };
}

/** Never rejects. */
async function serve(
  deps: PagesDeps,
  { req, res, target }: { req: IncomingMessage; res: ServerResponse; target: RequestTarget },
): Promise<void> {
  const { maker, clock, log, metrics } = deps;
  const startedMs = clock.monotonicMs();
  const requestId = deps.nextRequestId();
  let answer: PageAnswer;
  try {
    answer = await maker.handle(requestOf(deps, { req, res, target, requestId }));
  } catch (thrown) {
    if (thrown instanceof ClientGoneError) return;
    log.error("http.failed", { requestId, route: ROUTE, err: thrown });
    answer = maker.failed(requestId);
  }
  const closes = !(await discardBody(req));
  const seconds = (clock.monotonicMs() - startedMs) / 1000;
  metrics.httpRequestSeconds.labels(ROUTE, String(answer.status)).observe(seconds);
  if (res.destroyed) return;
  const { status, headers, body } = answer;
  res.writeHead(status, {
    ...deps.headers,
    ...(headers as Record<string, string | string[]>),
    "X-Request-Id": requestId,
    "Content-Length": Buffer.byteLength(body),
    ...(closes && { Connection: "close" }),
  });
  res.end(body);
}

function requestOf(
  deps: PagesDeps,
  of: { req: IncomingMessage; res: ServerResponse; target: RequestTarget; requestId: string },
): PageRequest {
  const { req, res, target, requestId } = of;
  const { headers } = req;
  const signal = lazySignal(req, res);
  return {
    requestId,
    method: req.method ?? "",
    path: target.path,
    query: target.query,
    // Node joins several `Cookie` headers with `; ` (RFC 9113 §8.2.3).
    cookies: headers.cookie,
    origin: headerText(headers.origin),
    fetchSite: headerText(headers["sec-fetch-site"]),
    contentType: onlyOne(req, "content-type"),
    remoteAddress: deps.addresses.clientOf(req),
    receivedAtMs: deps.clock.nowMs(),
    get signal() {
      return signal();
    },
    read: () => readBody(req, LIMITS.formBytes),
  };
}

/** Empty, which is no type, where it stands twice: two readers could see different ones. */
function onlyOne({ rawHeaders, headers }: IncomingMessage, name: "content-type"): string | undefined {
  const count = rawHeaders.filter((text, at) => at % 2 === 0 && text.toLowerCase() === name).length;
  return count > 1 ? "" : headers[name];
}
