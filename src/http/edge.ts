import { URL } from "node:url";
import type { RequestListener } from "node:http";
import type { Clock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { createInProcess } from "./in-process.ts";
import { openApiDocument } from "./openapi.ts";
import { createPages } from "./pages.ts";
import type { PageMakerOf } from "./pages.ts";
import { createProxied } from "./proxied.ts";
import { createRawEndpoints } from "./raw.ts";
import { createAddresses, createRequestIds } from "./request.ts";
import type { NodeHandler } from "./request.ts";
import type { Rooms } from "./rooms.ts";
import type { House } from "./route.ts";
import { createRouter } from "./router.ts";
import { routes } from "./routes/all.ts";
import { formRoutes } from "./routes/oauth.ts";

/** What the edge is built from. */
export interface EdgeDeps {
  /** Our issuer identifier; every URL that we tell anybody comes from it. */
  readonly issuer: string;
  /** Of the program, for `/openapi.json`. */
  readonly version: string;
  /** Algorithm of our own token keys. */
  readonly algorithm: string;
  readonly hasMetricsListener: boolean;
  /** Addresses and networks whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: readonly string[];
  readonly rooms: Rooms;
  /** Makes the operator's pages. */
  readonly console: PageMakerOf;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly isStopping: () => boolean;
}

/** The handlers of the two listeners. */
export interface Edge {
  /** Everything. */
  readonly handle: RequestListener;
  /** `/metrics`, `/livez` and `/readyz`, for a listener that only operators reach. */
  readonly handleMetrics: RequestListener;
}

/** A year (RFC 6797 §6.1.1). */
const STRICT_TRANSPORT = "max-age=31536000; includeSubDomains";

/** Empty and dot segments, however spelled, and backslashes: what a URL parser would resolve, so that two readers see two paths. */
const NOT_CANONICAL = /\/\/|\\|\/(?:\.|%2e){1,2}(?:\/|$)/i;

/** What such a path is told: the same each time, whatever stood in it. */
const NOT_CANONICAL_BODY = JSON.stringify({
  type: "urn:ephor:problem:invalid_request",
  title: "The request is malformed or cannot be accepted",
  status: 400,
  code: "invalid_request",
  detail: "The path has an empty or a dot segment, or a backslash: two servers could read it as two paths.",
});

/** Builds the edge: OAuth forms on Node's own objects by exact path, everything else through the router. */
export function createEdge(deps: EdgeDeps): Edge {
  const { rooms, clock, log, metrics } = deps;
  const basePath = new URL(deps.issuer).pathname.replace(/\/$/, "");
  const isHttps = deps.issuer.startsWith("https:");
  const house = houseOf(deps, basePath);
  const nextRequestId = createRequestIds();
  const addresses = createAddresses(deps.trustedProxies);
  const endpoint = createRawEndpoints({
    clock,
    log,
    metrics,
    addresses,
    nextRequestId,
    dpopNonce: rooms.sts.dpopNonce,
    refusedAtEdge: rooms.refusedAtEdge,
    headers: [
      ["Cache-Control", "no-store"],
      // RFC 6749 §5.1 demands it; OAuth 2.1 no longer does.
      ["Pragma", "no-cache"],
      ["X-Content-Type-Options", "nosniff"],
      ["Referrer-Policy", "no-referrer"],
      ...(isHttps ? [["Strict-Transport-Security", STRICT_TRANSPORT]] : []),
    ].flat(),
  });
  const raw = new Map<string, NodeHandler>([
    ["/token", endpoint("/token", rooms.sts.token)],
    ["/introspect", endpoint("/introspect", rooms.sts.introspect)],
    ["/revoke", endpoint("/revoke", rooms.sts.revoke)],
  ]);
  const safe = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    ...(isHttps && { "Strict-Transport-Security": STRICT_TRANSPORT }),
  };
  const router = createRouter({
    routes,
    rooms,
    house,
    addresses,
    nextRequestId,
    headers: safe,
  });
  const proxied = createProxied({
    issuer: deps.issuer,
    clock,
    log,
    metrics,
    addresses,
    nextRequestId,
    dpopNonce: rooms.sts.dpopNonce,
    refusedAtEdge: rooms.refusedAtEdge,
    proxy: rooms.proxy,
    headers: safe,
  });
  const pages = createPages({
    maker: deps.console(createInProcess({ routes, rooms, house })),
    clock,
    log,
    metrics,
    addresses,
    nextRequestId,
    headers: { ...safe, "Cross-Origin-Resource-Policy": "same-origin" },
  });
  const byPath = (path: string): NodeHandler | undefined => proxied(path) ?? pages(path);
  return {
    handle: dispatcher({ basePath, raw, byPath, router, headers: safe }),
    handleMetrics: metricsHandler(house, rooms),
  };
}

function houseOf(deps: EdgeDeps, basePath: string): House {
  let document: object | undefined;
  const { issuer, version, algorithm, hasMetricsListener, isStopping, metrics, clock, log } = deps;
  return {
    issuer,
    basePath,
    version,
    algorithm,

    hasMetricsListener,
    isStopping,
    metrics,
    clock,
    log,
    openApi: () => (document ??= openApiDocument({ version, routes, forms: formRoutes })),
  };
}

/** Splits the target once, takes the issuer's path off, and picks who answers. */
function dispatcher(parts: {
  basePath: string;
  raw: ReadonlyMap<string, NodeHandler>;
  byPath: (path: string) => NodeHandler | undefined;
  router: NodeHandler;
  /** On what is refused here. */
  headers: Readonly<Record<string, string>>;
}): RequestListener {
  const { basePath, raw, byPath, router, headers } = parts;
  return (req, res) => {
    const url = req.url ?? "/";
    const mark = url.indexOf("?");
    const asked = mark < 0 ? url : url.slice(0, mark);
    const query = mark < 0 ? undefined : url.slice(mark + 1);
    const path = basePath === "" ? asked : below(basePath, asked);
    const handler = raw.get(path);
    if (handler !== undefined) return handler(req, res, { path, query });
    if (!path.startsWith("/") || NOT_CANONICAL.test(path)) {
      // An absolute target or `*`: this is no proxy. Or a path that somebody before us may have read as another one.
      res.writeHead(400, {
        ...headers,
        "Content-Type": "application/problem+json",
        "Content-Length": Buffer.byteLength(NOT_CANONICAL_BODY),
        Connection: "close",
      });
      return void res.end(req.method === "HEAD" ? undefined : NOT_CANONICAL_BODY);
    }
    const answers = byPath(path);
    if (answers !== undefined) return answers(req, res, { path, query });
    if (path !== asked) req.url = query === undefined ? path : `${path}?${query}`;
    return router(req, res, { path, query });
  };
}

/**
 * A path without the issuer's own: in front of everything, where a proxy passes it on; or behind a well-known name, where
 * RFC 8414 §3.1 and RFC 9728 §3.1 insert it.
 */
function below(basePath: string, path: string): string {
  if (path.startsWith(`${basePath}/`)) return path.slice(basePath.length);
  const [, name, rest = ""] = /^(\/\.well-known\/[a-z-]+)(\/.*)?$/.exec(path) ?? [];
  if (name !== undefined && (rest === basePath || rest.startsWith(`${basePath}/`)))
    return name + rest.slice(basePath.length);
  return path;
}

function metricsHandler(house: House, rooms: Rooms): RequestListener {
  return (req, res) => {
    const answer = async (): Promise<{ status: number; type: string; text: string }> => {
      const path = (req.url ?? "").split("?")[0];
      if (req.method !== "GET" && req.method !== "HEAD") return { status: 405, type: "text/plain", text: "" };
      if (path === "/metrics")
        return { status: 200, type: house.metrics.contentType, text: await house.metrics.render() };
      if (path === "/livez") return { status: 200, type: "text/plain", text: "ok\n" };
      if (path !== "/readyz") return { status: 404, type: "text/plain", text: "" };
      const isReady = !house.isStopping() && Object.values(await rooms.readiness()).every(Boolean);
      return { status: isReady ? 200 : 503, type: "text/plain", text: isReady ? "ready\n" : "not ready\n" };
    };
    void answer()
      .catch((err: unknown) => {
        house.log.error("http.failed", { route: "metrics", err });
        return { status: 500, type: "text/plain", text: "" };
      })
      .then(({ status, type, text }) => {
        res.writeHead(status, {
          "Content-Type": type,
          "Content-Length": Buffer.byteLength(text),
          ...(status === 405 && { Allow: "GET, HEAD" }),
        });
        res.end(text);
      });
  };
}
