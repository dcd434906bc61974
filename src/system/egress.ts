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
 * authorization, no redirect, no proxy of the environment, no decompression.
 */
export interface Egress {
  /** @throws {EgressError} with its `kind` */
  get(url: string, request: EgressRequest): Promise<EgressResponse>;
  /** Cuts all connections, also those that are being made; later requests fail with `network`. */
  close(): void;
}

/** @param options `resolve` replaces the system's resolver (tests only) */
export function createEgress(options: { resolve?: ResolveAll } = {}): Egress {
  const resolve = options.resolve ?? resolveBySystem;
  // One agent each, so that a connection opened for an internal issuer is never reused for a public URL.
  const agents = { internal: guardedAgent(true, resolve), public: guardedAgent(false, resolve) };
  return {
    get: async (url, request) =>
      get(request.internal ? agents.internal : agents.public, parseUrl(url, request.internal), request),
    close() {
      // Not waited for: undici would wait for a resolver that never answers.
      for (const agent of [agents.internal, agents.public]) agent.destroy().catch(() => {});
    },
  };
}

function guardedAgent(internal: boolean, resolve: ResolveAll): Agent {
  return new Agent({
    connect: guardedConnector({ internal, resolve, connectTimeoutMs: EGRESS_LIMITS.timeoutMs }),
    connections: EGRESS_LIMITS.connections,
    pipelining: 1,
    keepAliveTimeout: EGRESS_LIMITS.keepAliveMs,
    keepAliveMaxTimeout: EGRESS_LIMITS.keepAliveMs,
    maxResponseSize: EGRESS_LIMITS.maxBytes,
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

async function get(agent: Agent, url: URL, request: EgressRequest): Promise<EgressResponse> {
  const cut = new AbortController();
  let handle: ReturnType<typeof setTimeout> | undefined;
  // undici looks at the signal only once it is connected; a resolver that never answers needs the race.
  const late = new Promise<never>((_resolve, reject) => {
    handle = setTimeout(
      () => {
        cut.abort();
        reject(new EgressError("timeout"));
      },
      Math.min(request.timeoutMs, EGRESS_LIMITS.timeoutMs),
    );
  });
  try {
    return await Promise.race([exchange(agent, url, { request, signal: cut.signal }), late]);
  } catch (error) {
    throw asEgressError(error);
  } finally {
    clearTimeout(handle);
  }
}

async function exchange(
  agent: Agent,
  url: URL,
  o: { request: EgressRequest; signal: AbortSignal },
): Promise<EgressResponse> {
  const response = await agent.request({
    origin: url.origin,
    path: url.pathname + url.search,
    method: "GET",
    headers: { accept: o.request.accept, "accept-encoding": "identity", "user-agent": "ephor" },
    signal: o.signal,
  });
  return await readResponse(response, Math.min(o.request.maxBytes, EGRESS_LIMITS.maxBytes));
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
