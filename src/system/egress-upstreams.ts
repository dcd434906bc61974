import { Readable } from "node:stream";
import { Pool, type Dispatcher } from "undici";
import type { CutSignal } from "./cutting.ts";
import { ReceivedBody, type FlowingBody } from "./egress-body.ts";
import { guardedConnector, resolveBySystem, type ResolveAll } from "./egress-connector.ts";
import { EgressError } from "./egress-error.ts";

/** Ceilings of relayed requests. */
export const UPSTREAM_LIMITS = {
  /** Milliseconds until a connection stands. */
  connectTimeoutMs: 5_000,
  /** Milliseconds until the head of an answer is there. A call lives no longer than its token, 59 s. */
  headersTimeoutMs: 60_000,
  /** Sockets of one caller to one upstream: no call waits for one, since no caller may have more calls in progress. */
  connections: 1_000,
  /** Bytes of an answer's head. */
  headerBytes: 32 * 1024,
  /** Milliseconds that an idle socket is kept for its caller's next request. */
  keepAliveMs: 4_000,
  /** Milliseconds after which a caller's idle pool is taken down. */
  idleMs: 10_000,
} as const;

/** A request whose answer flows. */
export interface UpstreamOrder {
  /**
   * Whose sockets these are. Sockets are never shared between two of them: an answer that came unasked on a kept connection
   * could only ever reach whoever caused it (INV-19, A-PRX-14).
   */
  readonly pool: string;
  readonly origin: string;
  readonly path: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | AsyncIterable<Uint8Array> | undefined;
  /** The operator allows private and loopback addresses, and for loopback plain `http:`. */
  readonly internal: boolean;
  readonly signal: CutSignal;
}

/** The head of an answer, and its body as it comes. */
export interface UpstreamAnswer {
  readonly status: number;
  /** Names and values, alternately, as they were sent. */
  readonly rawHeaders: readonly string[];
  /** Must be read to its end or destroyed. */
  readonly body: FlowingBody;
}

/** The way out for calls that are relayed. As guarded as {@link Egress}: no redirect, no cookie, no second try. */
export interface Upstreams {
  /** @throws {EgressError} with its `kind`, and `unreached` where nobody was there */
  send(order: UpstreamOrder): Promise<UpstreamAnswer>;
  close(): void;
}

interface Kept {
  readonly pool: Pool;
  inFlight: number;
  usedAtMs: number;
}

/** @param options.resolve replaces the system's resolver (tests only) */
export function createUpstreams(options: { resolve?: ResolveAll | undefined } = {}): Upstreams {
  const resolve = options.resolve ?? resolveBySystem;
  const { connectTimeoutMs, headersTimeoutMs, connections, keepAliveMs, headerBytes, idleMs } = UPSTREAM_LIMITS;
  const connectors = {
    internal: guardedConnector({ internal: true, resolve, connectTimeoutMs }),
    public: guardedConnector({ internal: false, resolve, connectTimeoutMs }),
  };
  const pools = new Map<string, Kept>();
  const sweep = setInterval(() => {
    const now = performance.now();
    for (const [key, kept] of pools) {
      if (kept.inFlight > 0 || now - kept.usedAtMs < idleMs) continue;
      pools.delete(key);
      void kept.pool.destroy().catch(() => {});
    }
  }, idleMs).unref();

  function poolOf({ pool, origin, internal }: UpstreamOrder): Kept {
    const key = `${internal ? "internal" : "public"} ${origin} ${pool}`;
    let kept = pools.get(key);
    if (kept === undefined) {
      kept = {
        pool: new Pool(origin, {
          connect: internal ? connectors.internal : connectors.public,
          connections,
          pipelining: 1,
          keepAliveTimeout: keepAliveMs,
          keepAliveMaxTimeout: keepAliveMs,
          headersTimeout: headersTimeoutMs,
          // Whatever drips is cut with its token; a quiet event stream is no fault.
          bodyTimeout: 0,
          maxHeaderSize: headerBytes,
        }),
        inFlight: 0,
        usedAtMs: 0,
      };
      pools.set(key, kept);
    }
    return kept;
  }

  return {
    async send(order) {
      checkScheme(order);
      const kept = poolOf(order);
      kept.inFlight++;
      kept.usedAtMs = performance.now();
      return await dispatched(kept.pool, order, () => {
        kept.inFlight--;
        kept.usedAtMs = performance.now();
      });
    },
    close() {
      clearInterval(sweep);
      for (const { pool } of pools.values()) void pool.destroy().catch(() => {});
      pools.clear();
    },
  };
}

/** Sends. @param left called once, when nothing more comes of it */
function dispatched(pool: Pool, order: UpstreamOrder, left: () => void): Promise<UpstreamAnswer> {
  return new Promise((resolve, reject) => {
    const { signal } = order;
    let sender: Dispatcher.DispatchController | undefined;
    let body: ReceivedBody | undefined;
    let isOver = false;
    const over = (): void => {
      if (isOver) return;
      isOver = true;
      signal.removeEventListener("abort", abort);
      left();
    };
    // Before a connection stands there is nothing to be told, and whoever waits need not.
    const fail = (error: Error): void => {
      over();
      if (body === undefined) reject(asEgressError(error));
      else body.end(error);
    };
    const abort = (): void => {
      const error = new EgressError("aborted");
      fail(error);
      sender?.abort(error);
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort);
    pool.dispatch(
      {
        path: order.path,
        method: order.method as Dispatcher.HttpMethod,
        headers: { ...order.headers, "accept-encoding": "identity" },
        body: bodyOf(order.body),
      },
      {
        onRequestStart(controller) {
          sender = controller;
          if (isOver) controller.abort(new EgressError("aborted"));
        },
        onResponseStart(controller, status) {
          // Informational: the answer is still to come (RFC 9110 §15.2).
          if (status < 200 && status !== 101) return;
          body = new ReceivedBody(controller, over);
          const rawHeaders = (controller.rawHeaders as (Buffer | string)[]).map(textOf);
          resolve({ status, rawHeaders, body });
        },
        onResponseData: (_, chunk) => body?.push(chunk),
        onResponseEnd: () => body?.end(),
        onResponseError: (_, error) => fail(error),
      },
    );
  });
}

function bodyOf(body: UpstreamOrder["body"]): string | Uint8Array | Readable | null {
  if (body === undefined) return null;
  return typeof body === "string" || body instanceof Uint8Array ? body : Readable.from(body);
}

function checkScheme({ origin, internal }: UpstreamOrder): void {
  if (origin.startsWith("https://") || (internal && origin.startsWith("http://"))) return;
  throw new EgressError("url");
}

function textOf(raw: Buffer | string): string {
  return typeof raw === "string" ? raw : raw.toString("latin1");
}

function asEgressError(error: unknown): EgressError {
  if (error instanceof EgressError) return error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (error instanceof Error && error.name === "AbortError") return new EgressError("aborted", { cause: error });
  if (/^UND_ERR_(?:CONNECT|HEADERS|BODY)_TIMEOUT$/.test(code)) return new EgressError("timeout", { cause: error });
  if (code === "UND_ERR_HEADERS_OVERFLOW") return new EgressError("too_large", { cause: error });
  return new EgressError("network", { cause: error });
}
