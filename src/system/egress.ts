import { Agent, type Dispatcher } from "undici";
import { guardedConnector, resolveBySystem, type ResolveAll } from "./egress-connector.ts";
import { EgressError } from "./egress-error.ts";

/** Ceilings of every request; a caller may ask for less (INV-21). */
export const EGRESS_LIMITS = {
  /** A discovery document has 2–5 KB, a key set with 20 keys 10 KB. */
  maxBytes: 100 * 1024,
  /** From the call to the last byte: also a body that drips one byte a second ends then. */
  timeoutMs: 5_000,
  /** Sockets to one origin; fetches are single-flight per issuer, so more would be a bug. */
  connections: 2,
  /** Idle connections are not worth keeping for a fetch every ten minutes. */
  keepAliveMs: 1_000,
} as const;

/** What may be asked of one request. */
export interface EgressRequest {
  /** The operator allows private and loopback addresses for this URL, and for loopback plain `http:`. */
  readonly internal: boolean;
  /** Bytes of the body; more is `too_large`. At most {@link EGRESS_LIMITS.maxBytes}. */
  readonly maxBytes: number;
  /** Milliseconds for everything: DNS, TCP, TLS, head and body. At most {@link EGRESS_LIMITS.timeoutMs}. */
  readonly timeoutMs: number;
  /** The `Accept` header. */
  readonly accept: string;
}

/** Ceilings of what is sent to an upstream by {@link Egress.send}; a caller may ask for less. */
export const SEND_LIMITS = {
  /** GitHub answers a token with whole descriptions of its repositories, 5–6 KB each. */
  maxBytes: 1024 * 1024,
  /** Authorization servers that ask others take seconds; a lease lives 59 s at most, and its caller waits. */
  timeoutMs: 10_000,
  /** Sockets to one origin, for vends at the same time. */
  connections: 16,
} as const;

/** One request to an upstream. */
export interface EgressOrder {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly url: string;
  /** Names in lower case. `user-agent` and `accept-encoding` are ours; undici refuses what is no header. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** As in {@link EgressRequest}. */
  readonly internal: boolean;
  /** Bytes of the answer's body; more is `too_large`. At most {@link SEND_LIMITS.maxBytes}. */
  readonly maxBytes: number;
  /** Milliseconds for everything: DNS, TCP, TLS, head and body. At most {@link SEND_LIMITS.timeoutMs}. */
  readonly timeoutMs: number;
  /** Ends it early, with `aborted`. The upstream may have served it all the same. */
  readonly signal?: AbortSignal;
}

/** An answer below 300 or from 400 on; what the status means is the caller's business. */
export interface EgressResponse {
  readonly status: number;
  /** Media type in lower case without parameters, or empty. */
  readonly contentType: string;
  readonly body: Uint8Array;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/**
 * The only way out for requests whose URL comes from configuration or from another party's document. No cookie, no
 * redirect, no proxy of the environment, no decompression, no second try.
 */
export interface Egress {
  /**
   * Fetches a document, without any authorization.
   *
   * @throws {EgressError} with its `kind`
   */
  get(url: string, request: EgressRequest): Promise<EgressResponse>;
  /**
   * Sends what the caller gives, its credentials included, to where the caller says.
   *
   * @throws {EgressError} with its `kind`
   */
  send(order: EgressOrder): Promise<EgressResponse>;
  /** Cuts all connections, also those that are being made; later requests fail with `network`. */
  close(): void;
}

/** @param options `resolve` replaces the system's resolver (tests only) */
export function createEgress(options: { resolve?: ResolveAll } = {}): Egress {
  const resolve = options.resolve ?? resolveBySystem;
  // One agent each, so that a connection opened for an internal URL is never reused for a public one, and so that fetches
  // of keys and calls of upstreams do not wait for each other.
  const fetching = {
    internal: guardedAgent(true, resolve, EGRESS_LIMITS),
    public: guardedAgent(false, resolve, EGRESS_LIMITS),
  };
  const sending = {
    internal: guardedAgent(true, resolve, SEND_LIMITS),
    public: guardedAgent(false, resolve, SEND_LIMITS),
  };
  return {
    get: async (url, { internal, accept, maxBytes, timeoutMs }) =>
      exchange(agentFor(fetching, internal), EGRESS_LIMITS, {
        method: "GET",
        url,
        headers: { accept },
        internal,
        maxBytes,
        timeoutMs,
      }),
    send: async (order) => exchange(agentFor(sending, order.internal), SEND_LIMITS, order),
    close() {
      // Not waited for: undici would wait for a resolver that never answers.
      const agents = [fetching.internal, fetching.public, sending.internal, sending.public];
      for (const agent of agents) agent.destroy().catch(() => {});
    },
  };
}

interface Agents {
  readonly internal: Agent;
  readonly public: Agent;
}

interface Ceilings {
  readonly maxBytes: number;
  readonly timeoutMs: number;
  readonly connections: number;
}

function agentFor(agents: Agents, internal: boolean): Agent {
  return internal ? agents.internal : agents.public;
}

function guardedAgent(internal: boolean, resolve: ResolveAll, ceilings: Ceilings): Agent {
  return new Agent({
    connect: guardedConnector({ internal, resolve, connectTimeoutMs: EGRESS_LIMITS.timeoutMs }),
    connections: ceilings.connections,
    pipelining: 1,
    keepAliveTimeout: EGRESS_LIMITS.keepAliveMs,
    keepAliveMaxTimeout: EGRESS_LIMITS.keepAliveMs,
    maxResponseSize: ceilings.maxBytes,
  });
}

/** https always; http only where the connector will insist on loopback. */
function parseUrl(text: string, internal: boolean): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new EgressError("url");
  }
  const schemeFits = url.protocol === "https:" || (url.protocol === "http:" && internal);
  if (!schemeFits || url.username !== "" || url.password !== "") throw new EgressError("url");
  return url;
}

async function exchange(agent: Agent, ceilings: Ceilings, order: EgressOrder): Promise<EgressResponse> {
  const url = parseUrl(order.url, order.internal);
  const maxBytes = Math.min(order.maxBytes, ceilings.maxBytes);
  const timeoutMs = Math.min(order.timeoutMs, ceilings.timeoutMs);
  try {
    return await bounded({ timeoutMs, signal: order.signal }, async (signal) => {
      const response = await agent.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method: order.method,
        headers: { ...order.headers, "accept-encoding": "identity", "user-agent": "ephor" },
        body: order.body ?? null,
        signal,
      });
      return await readResponse(response, maxBytes);
    });
  } catch (error) {
    throw asEgressError(error);
  }
}

/** Runs it until it ends, time is up or the caller's signal fires; then its own signal fires too. */
async function bounded<T>(
  by: { timeoutMs: number; signal: AbortSignal | undefined },
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (by.signal?.aborted === true) throw new EgressError("aborted");
  const cut = new AbortController();
  let handle: ReturnType<typeof setTimeout> | undefined;
  let onAbort = (): void => {};
  // undici looks at the signal only once it is connected; a resolver that never answers needs the race.
  const stopped = new Promise<never>((_resolve, reject) => {
    const stop = (kind: "timeout" | "aborted"): void => {
      reject(new EgressError(kind));
      cut.abort();
    };
    handle = setTimeout(() => stop("timeout"), by.timeoutMs);
    onAbort = () => stop("aborted");
  });
  by.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([run(cut.signal), stopped]);
  } finally {
    clearTimeout(handle);
    by.signal?.removeEventListener("abort", onAbort);
  }
}

async function readResponse(response: Dispatcher.ResponseData, maxBytes: number): Promise<EgressResponse> {
  const { statusCode: status, headers, body } = response;
  try {
    if (status >= 300 && status < 400) throw new EgressError("redirect");
    const encoding = headers["content-encoding"];
    if (encoding !== undefined && encoding !== "identity") throw new EgressError("encoding");
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      size += chunk.byteLength;
      if (size > maxBytes) throw new EgressError("too_large");
      chunks.push(chunk);
    }
    return { status, contentType: mediaType(headers["content-type"]), body: Buffer.concat(chunks), headers };
  } finally {
    // After a whole body this does nothing; before, it closes the connection instead of draining it.
    body.on("error", () => {}).destroy();
  }
}

function mediaType(header: string | string[] | undefined): string {
  return typeof header === "string" ? (header.split(";", 1)[0] ?? "").trim().toLowerCase() : "";
}

function asEgressError(error: unknown): EgressError {
  if (error instanceof EgressError) return error;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "UND_ERR_CONNECT_TIMEOUT") return new EgressError("timeout", { cause: error });
  if (code === "UND_ERR_RES_EXCEEDED_MAX_SIZE") return new EgressError("too_large", { cause: error });
  return new EgressError("network", { cause: error });
}
