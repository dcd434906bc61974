import { request as httpRequest } from "node:http";
import type { IncomingHttpHeaders, RequestListener } from "node:http";
import { connect } from "node:net";
import type { TestContext } from "node:test";
import { InvalidTokenError } from "../../src/core/oauth/errors.ts";
import { createEdge } from "../../src/http/edge.ts";
import type { EdgeDeps } from "../../src/http/edge.ts";
import type { EdgeRefusal, RawOAuthAnswer, RawOAuthRequest, Rooms } from "../../src/http/rooms.ts";
import { listen } from "../../src/http/server.ts";
import type { Listener } from "../../src/http/server.ts";
import { systemClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { createMetrics } from "../../src/system/metrics.ts";

export const OPERATOR = "Bearer ephor_op_good";
export const AGENT = "Bearer agent-token";
export const TXN = "01J0000000000000000000000A";
const AT = "2026-11-22T12:00:00Z";

/** An answer of the token endpoint. */
export const GRANTED: RawOAuthAnswer = {
  status: 200,
  headers: { "Content-Type": "application/json" },
  body: '{"access_token":"t","token_type":"Bearer"}',
};

/** Everything the stub rooms were asked, in order. */
export interface Seen {
  readonly oauth: RawOAuthRequest[];
  readonly calls: { name: string; args: unknown[] }[];
  readonly refusals: EdgeRefusal[];
}

/** Rooms by hand: they answer what the shapes allow, and remember what they were asked. */
export function stubRooms(seen: Seen, overrides: Partial<Rooms> = {}): Rooms {
  const asked =
    <T>(name: string, answer: T) =>
    (...args: unknown[]): T => {
      seen.calls.push({ name, args });
      return answer;
    };
  const form = (request: RawOAuthRequest): Promise<RawOAuthAnswer> => {
    seen.oauth.push(request);
    return Promise.resolve(GRANTED);
  };
  const object = {
    kind: "agents",
    name: "bot",
    source: null,
    version: 1,
    status: "active",
    spec: { owner: "a@b.example" },
  } as const;
  const receipt = { id: "kill_1", at: AT, by: "operator", reason: "test", dry_run: false, lines: [], replicas: [] };
  const secret = {
    name: "crm-key",
    owner: "a@b.example",
    version: 1,
    fingerprint: "f",
    created_at: AT,
    updated_at: AT,
    updated_by: "operator",
  };
  const recording = {
    event: "evt_1",
    of: "evt_1",
    part: "arguments" as const,
    state: "kept" as const,
    txn: TXN,
    resource: "crm",
    kept_at: AT,
    until: AT,
  };
  const tool = { name: "get_ticket", status: "changed", hash: "a".repeat(64), seen_hash: "b".repeat(64) } as const;
  const stream = {
    stream_id: "ssf_1",
    iss: "https://sts.example",
    aud: "https://api.example",
    events_supported: [],
    events_delivered: [],
    delivery: { method: "urn:ietf:rfc:8936" as const, endpoint_url: "https://sts.example/ssf/poll/ssf_1" },
    min_verification_interval: 30,
  };
  return {
    login: () => ({ issuers: [] }),
    ssf: {
      create: asked("ssf.create", Promise.resolve(stream)),
      list: asked("ssf.list", Promise.resolve([stream])),
      read: asked("ssf.read", Promise.resolve(stream)),
      change: asked("ssf.change", Promise.resolve(stream)),
      remove: asked("ssf.remove", Promise.resolve()),
      status: asked("ssf.status", Promise.resolve({ stream_id: "ssf_1", status: "enabled" as const })),
      setStatus: asked("ssf.setStatus", Promise.resolve({ stream_id: "ssf_1", status: "paused" as const })),
      verify: asked("ssf.verify", Promise.resolve()),
      poll: asked("ssf.poll", Promise.resolve({ sets: { a: "b.c.d" }, moreAvailable: false })),
    },
    revocations: {
      frame: async () => ({ seq: 1, frame: "a.b.c" }),
      frames: async () => (async function* none() {})(),
    },
    credentials: {
      vend: async () => ({
        vended: { lease: "lease_1", kind: "static", expires_at: AT, residual_seconds: 0, credential: {} },
        released: { release: () => true },
      }),
    },
    signals: { receive: async () => {} },
    approvals: {
      list: asked("approvals.list", Promise.resolve({ items: [] })),
      read: asked("approvals.read", Promise.resolve(undefined)),
      decide: asked("approvals.decide", Promise.resolve(undefined)),
    },
    hooks: {
      slack: async () => "heard",
      teams: async () => "heard",
      webhook: async () => ({ approval: "apr_1", status: "approved" }),
    },
    proxy: { http: async () => undefined, mcp: async () => undefined },
    tools: {
      list: asked("tools.list", Promise.resolve({ resource: "crm", tools: [tool] })),
      accept: asked("tools.accept", Promise.resolve({ accepted: [{ tool: tool.name, hash: tool.seen_hash }] })),
    },
    secrets: {
      list: async () => ({ items: [secret] }),
      get: async (name) => (name === "crm-key" ? secret : undefined),
      put: async () => secret,
      rotate: async () => ({ secret, resource: "crm" }),
      remove: async (name) => name === "crm-key",
    },
    sts: { token: form, introspect: form, revoke: form, dpopNonce: () => "nonce-1" },
    operators: {
      isOperatorKey: (authorization) => authorization?.startsWith("Bearer ephor_op_") === true,
      authenticate: (authorization) =>
        authorization === OPERATOR
          ? Promise.resolve({ id: "op1" })
          : Promise.reject(new InvalidTokenError({ reason: "operator_key_wrong" })),
    },
    accessTokens: {
      authenticate: (credentials, action) => {
        seen.calls.push({ name: "accessTokens.authenticate", args: [credentials, action] });
        if (credentials.authorization !== AGENT)
          return Promise.reject(new InvalidTokenError({ reason: "token_signature" }));
        const token = {
          jti: TXN,
          txn: TXN,
          sub: "agent|bot",
          scopes: [`ephor:${action}`],
          kill: { keys: [], epochs: [] },
        };
        return Promise.resolve({ kind: "agent", agent: "bot", token });
      },
      follow: () => () => {},
    },
    sessions: { find: async () => undefined },
    tokenStillLives: () => Promise.resolve(),
    agents: {
      authenticate: (credentials) =>
        credentials.authorization === AGENT
          ? Promise.resolve({ kind: "agent", agent: "bot" })
          : Promise.reject(new InvalidTokenError({ reason: "token_signature" })),
    },
    tasks: {
      open: asked("tasks.open", Promise.resolve({ txn: TXN, deadline: 1, scopes: null })),
      read: asked(
        "tasks.read",
        Promise.resolve({
          txn: TXN,
          sub: "agent|bot",
          opener: "bot",
          status: "open" as const,
          deadline: 1,
          scopes: null,
          nodes: [],
        }),
      ),
      complete: asked("tasks.complete", Promise.resolve({ txn: TXN, ended: "task" as const })),
    },
    kills: {
      kill: asked("kills.kill", Promise.resolve(receipt)),
      read: asked("kills.read", Promise.resolve(receipt)),
      restore: asked("kills.restore", Promise.resolve({ restored: [{ kind: "agent" as const, id: "bot" }], at: AT })),
      list: asked("kills.list", Promise.resolve({ items: [] })),
      sign: asked("kills.sign", "header.payload.signature"),
    },
    registry: {
      list: asked("registry.list", Promise.resolve({ items: [] })),
      get: asked("registry.get", Promise.resolve(object)),
      put: asked("registry.put", Promise.resolve({ object, isNew: true })),
      delete: asked(
        "registry.delete",
        Promise.resolve({ kind: "agents" as const, name: "bot", version: 2, killed: true }),
      ),
      setAgentStatus: asked("registry.setAgentStatus", Promise.resolve(object)),
      apply: asked(
        "registry.apply",
        Promise.resolve({ source: "t.yaml", applied: true, version: 2, changes: [], warnings: [] }),
      ),
      resourceByIdentifier: (identifier) =>
        identifier.endsWith("/mcp/tickets") ? { name: "tickets", kind: "mcp" } : undefined,
    },
    ledger: {
      chain: asked("ledger.chain", Promise.resolve(undefined)),
      who: asked("ledger.who", Promise.resolve({ id: TXN, matches: [{ kind: "txn" as const, txn: TXN }] })),
      leases: asked("ledger.leases", Promise.resolve({ items: [] })),
      explain: asked("ledger.explain", Promise.resolve(undefined)),
      query: asked("ledger.query", Promise.resolve({ events: [] })),
      export: asked(
        "ledger.export",
        (async function* () {
          yield '{"seq":1}\n';
          yield '{"seq":2}\n';
        })(),
      ),
      verify: asked("ledger.verify", Promise.resolve({ ok: true, events: 0, streams: [], heads: 0, problems: [] })),
    },
    recordings: {
      read: asked("recordings.read", Promise.resolve(recording)),
      erase: asked("recordings.erase", Promise.resolve({ erased: ["evt_1"] })),
    },
    keys: {
      jwks: async () => ({ keys: [{ kty: "EC", kid: "token" }] }),
      recordJwks: () => ({ keys: [{ kty: "EC", kid: "record" }] }),
      rotate: asked("keys.rotate", Promise.resolve({ keys: [] })),
      rewrap: asked("keys.rewrap", Promise.resolve({ kek: "", rewrapped: 0, already: 0, remaining: 0, failed: [] })),
    },
    readiness: () => Promise.resolve({ database: true }),
    refusedAtEdge: (refusal) => void seen.refusals.push(refusal),
    ...overrides,
  };
}

/** What came back. */
export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  json(): Record<string, unknown>;
}

export interface EdgeServer {
  readonly seen: Seen;
  readonly listener: Listener;
  /** What the listener serves, for connections of a test's own. */
  readonly handle: RequestListener;
  readonly logLines: string[];
  /** @param headers pairs, so that one can stand twice */
  send(
    method: string,
    path: string,
    more?: { headers?: [string, string][]; body?: string | Uint8Array },
  ): Promise<Reply>;
  form(path: string, body: string, headers?: [string, string][]): Promise<Reply>;
  /** Bytes in, bytes out, until the server ends the connection. */
  bytes(text: string): Promise<string>;
}

/** The real edge on a real socket. */
export async function startEdge(
  t: TestContext,
  options: { rooms?: (seen: Seen) => Partial<Rooms>; deps?: Partial<EdgeDeps> } = {},
): Promise<EdgeServer> {
  const seen: Seen = { oauth: [], calls: [], refusals: [] };
  const listener = await listen({ host: "127.0.0.1", port: 0 });
  t.after(() => listener.finish(0));
  const logLines: string[] = [];
  const edge = createEdge({
    issuer: "https://sts.acme.example",
    version: "0.0.0",
    algorithm: "ES256",
    hasMetricsListener: false,
    trustedProxies: [],
    rooms: stubRooms(seen, options.rooms?.(seen)),
    console: () => ({
      handle: async () => ({ status: 200, headers: { "Content-Type": "text/html" }, body: "page" }),
      failed: () => ({ status: 500, headers: {}, body: "" }),
    }),
    clock: systemClock(),
    log: createLog({ level: "info", destination: { write: (line) => void logLines.push(line) } }),
    metrics: createMetrics({ version: "0.0.0" }),
    isStopping: () => false,
    ...options.deps,
  });
  listener.serve(edge.handle);
  const send: EdgeServer["send"] = (method, path, more = {}) => sendTo(listener.port, { method, path, ...more });
  return {
    seen,
    listener,
    handle: edge.handle,
    logLines,
    send,
    form: (path, body, headers = []) =>
      send("POST", path, { body, headers: [["Content-Type", "application/x-www-form-urlencoded"], ...headers] }),
    bytes: (text) => bytesTo(listener.port, text),
  };
}

function sendTo(
  port: number,
  order: { method: string; path: string; headers?: [string, string][]; body?: string | Uint8Array },
): Promise<Reply> {
  const body = order.body === undefined ? undefined : Buffer.from(order.body);
  const headers = [["Host", "127.0.0.1"], ...(order.headers ?? [])];
  if (body !== undefined) headers.push(["Content-Length", String(body.length)]);
  return new Promise((resolve, reject) => {
    const req = httpRequest(
      { host: "127.0.0.1", port, method: order.method, path: order.path, headers: headers.flat(), agent: false },
      (res) => {
        const chunks: Buffer[] = [];
        res.on("data", (chunk: Buffer) => chunks.push(chunk));
        res.on("error", reject);
        res.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          resolve({
            status: res.statusCode ?? 0,
            headers: res.headers,
            text,
            json: () => JSON.parse(text) as Record<string, unknown>,
          });
        });
      },
    );
    req.on("error", reject);
    req.end(body);
  });
}

function bytesTo(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port });
    let answer = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => (answer += chunk));
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
    socket.write(text);
  });
}
