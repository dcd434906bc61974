/** The two sides of every case: what each is sent, and how its answers are told from nonsense. */
import { createPublicKey, verify, type JsonWebKey } from "node:crypto";
import {
  INTROSPECTOR,
  PROXIED,
  RESOURCE,
  SCOPE,
  SUBJECTS,
  VENDED,
  VENDED_VALUE,
  WORKLOAD_ISSUER,
  type Ephor,
} from "./ephor.ts";
import type { Started } from "./processes.ts";
import { createPool, fixedPool, type BenchKey } from "./tokens.ts";

/** What is sent in one round. */
export interface Round {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** File of bodies. */
  readonly bodies: string;
  /** The bodies may be sent more than once. */
  readonly repeat: boolean;
}

/** One server in one case. */
export interface Side {
  /** Whose process is measured. */
  readonly server: "ephor" | "peer" | "crowded" | "bare" | "nginx";
  /** @param count how many requests the round may need */
  prepare(count: number): Promise<Round>;
  /** Told how many were sent. */
  sent(count: number): Promise<void>;
  /** @throws {Error} when the body is not the answer that was asked for */
  check(body: string): Promise<void>;
}

/** Where bodies are kept, and how to run what makes them. */
export interface Workshop {
  readonly folder: string;
  /** A command line that lets a process use all cores. */
  readonly run: readonly string[];
}

/** Tokens that are introspected or exchanged again in turn. The peer keeps no more than 1,000 entries. */
const TURNS = 200;
const PEER_RESOURCE = "https://billing.bench.example";
const PEER_OPAQUE_RESOURCE = "https://opaque.bench.example";
/** Longer than any run. */
const LIFETIME_SECONDS = 3 * 3600;

const EXCHANGE = {
  grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
  subject_token: "%TOKEN%",
  subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
  resource: RESOURCE,
  scope: SCOPE,
};

const basic = { Authorization: `Basic ${Buffer.from(`${INTROSPECTOR.id}:${INTROSPECTOR.secret}`).toString("base64")}` };

/** Ephor, each request with a workload token that it never saw: each opens a task. */
export function exchange(ephor: Ephor, key: BenchKey, at: Workshop): Side {
  const pool = createPool(`workload-${key.kid}`, workload(ephor, key), at);
  return {
    server: "ephor",
    async prepare(count) {
      await pool.fill(count);
      return { url: `${ephor.issuer}/token`, headers: {}, bodies: pool.path, repeat: false };
    },
    sent: pool.use,
    check: (body) => checkToken(ephor, body),
  };
}

/** The same at an Ephor with a crowd, by agents all over it. */
export function crowdedExchange(ephor: Ephor, key: BenchKey, at: Workshop & { subjects: readonly string[] }): Side {
  const pool = createPool(`crowd-${key.kid}`, { ...workload(ephor, key), subjects: at.subjects }, at);
  return {
    server: "crowded",
    async prepare(count) {
      await pool.fill(count);
      return { url: `${ephor.issuer}/token`, headers: {}, bodies: pool.path, repeat: false };
    },
    sent: pool.use,
    check: (body) => checkToken(ephor, body),
  };
}

/** Ephor, workload tokens that opened their tasks before: each request continues one. */
export function reExchange(ephor: Ephor, key: BenchKey, at: Workshop): Side {
  const pool = createPool(`again-${key.kid}`, workload(ephor, key), at);
  let opened: Promise<unknown> | undefined;
  return {
    server: "ephor",
    async prepare() {
      await pool.fill(TURNS);
      opened ??= Promise.all(pool.lines().map((body) => post(`${ephor.issuer}/token`, body)));
      await opened;
      return { url: `${ephor.issuer}/token`, headers: {}, bodies: pool.path, repeat: true };
    },
    sent: async () => {},
    check: (body) => checkToken(ephor, body),
  };
}

/** Ephor vends a stored value: decided and recorded twice, its lease written down, its secret opened each time. */
export function vending(ephor: Ephor, key: BenchKey, at: Workshop): Side {
  const order = { ...EXCHANGE, resource: `${ephor.issuer}/credentials/${VENDED}`, scope: `${VENDED}:vend`, ttl: "59" };
  const pool = createPool(`vending-${key.kid}`, { ...workload(ephor, key), form: order }, at);
  return {
    server: "ephor",
    async prepare() {
      await pool.fill(1);
      const [body = ""] = pool.lines();
      const token = await post(`${ephor.issuer}/token`, body);
      return {
        url: `${ephor.issuer}/credentials/${VENDED}`,
        headers: { Authorization: `Bearer ${String(token["access_token"])}` },
        bodies: await fixedPool("vended", [""], at.folder),
        repeat: true,
      };
    },
    sent: () => pool.use(1),
    async check(body) {
      const answer = JSON.parse(body) as { credential?: { value?: string } };
      if (answer.credential?.value !== VENDED_VALUE) throw new Error("Ephor vended something else");
    },
  };
}

/** A tools/call of about a kilobyte, as MCP clients of 2025-11-25 send it. */
const TOOL_CALL = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "tools/call",
  params: { name: "echo", arguments: { text: "y".repeat(900) } },
});
const MCP_HEADERS = { "Content-Type": "application/json", Accept: "application/json, text/event-stream" };

/** Ephor's proxy: the token looked up, the call read, decided, recorded, the upstream's credential put in, the outcome noted. */
export function proxiedCall(ephor: Ephor, key: BenchKey, at: Workshop): Side {
  const order = { ...EXCHANGE, resource: `${ephor.issuer}/mcp/${PROXIED}`, scope: `${PROXIED}:echo`, ttl: "59" };
  const pool = createPool(`proxied-${key.kid}`, { ...workload(ephor, key), form: order }, at);
  return {
    server: "ephor",
    async prepare() {
      await pool.fill(1);
      const [body = ""] = pool.lines();
      const token = await post(`${ephor.issuer}/token`, body);
      return {
        url: `${ephor.issuer}/mcp/${PROXIED}`,
        headers: { ...MCP_HEADERS, Authorization: `Bearer ${String(token["access_token"])}` },
        bodies: await fixedPool("proxied", [TOOL_CALL], at.folder),
        repeat: true,
      };
    },
    sent: () => pool.use(1),
    check: checkToolResult,
  };
}

/** The same call through a proxy that does nothing but relay. */
export function bareProxy(server: "bare" | "nginx", url: string, at: Workshop): Side {
  return {
    server,
    prepare: async () => ({
      url: `${url}/mcp`,
      headers: MCP_HEADERS,
      bodies: await fixedPool(server, [TOOL_CALL], at.folder),
      repeat: true,
    }),
    sent: async () => {},
    check: checkToolResult,
  };
}

async function checkToolResult(body: string): Promise<void> {
  const answer = JSON.parse(body) as { result?: { content?: unknown[] } };
  if (answer.result?.content?.length !== 1) throw new Error(`the call was answered ${body.slice(0, 200)}`);
}

/** Ephor's introspection of tokens that it issued a moment ago; they live under a minute. */
export function introspection(ephor: Ephor, key: BenchKey, at: Workshop): Side {
  const pool = createPool(`introspected-${key.kid}`, { ...workload(ephor, key), form: { ...EXCHANGE, ttl: "59" } }, at);
  return {
    server: "ephor",
    async prepare() {
      await pool.fill(TURNS);
      const tokens = await Promise.all(pool.lines().map((body) => post(`${ephor.issuer}/token`, body)));
      const bodies = tokens.map((answer) => new URLSearchParams({ token: String(answer["access_token"]) }).toString());
      return {
        url: `${ephor.issuer}/introspect`,
        headers: basic,
        bodies: await fixedPool("introspected", bodies, at.folder),
        repeat: true,
      };
    },
    sent: async () => {},
    async check(body) {
      const answer = JSON.parse(body) as Record<string, unknown>;
      if (answer["active"] !== true || answer["aud"] !== RESOURCE || answer["scope"] !== SCOPE)
        throw new Error(`Ephor answered ${body}`);
    },
  };
}

function workload(ephor: Ephor, key: BenchKey) {
  return {
    key,
    // About what a CI job's token says.
    claims: {
      iss: WORKLOAD_ISSUER,
      aud: ephor.issuer,
      repository: "acme/billing-reports",
      repository_id: "734012345",
      repository_owner_id: "5511223",
      ref: "refs/heads/main",
      environment: "production",
      workflow: "nightly",
      run_id: "9612345678",
    },
    subjects: SUBJECTS,
    lifetimeSeconds: LIFETIME_SECONDS,
    form: EXCHANGE,
  };
}

async function checkToken(ephor: Ephor, body: string): Promise<void> {
  const answer = JSON.parse(body) as Record<string, unknown>;
  const claims = await verified(String(answer["access_token"]), `${ephor.issuer}/.well-known/jwks.json`);
  const isReal =
    claims["iss"] === ephor.issuer &&
    claims["aud"] === RESOURCE &&
    claims["scope"] === SCOPE &&
    answer["expires_in"] === 45;
  if (!isReal) throw new Error("Ephor's token is not what was asked for");
}

/** The peer and the key that its client signs with. */
export interface Peer {
  readonly issuer: string;
  readonly clientKey: BenchKey;
  readonly process: Started;
}

/** What the peer is started with. */
export function peerOrder(port: number, keys: { signing: BenchKey; client: BenchKey }): object {
  return {
    server: "ephor",
    issuer: `http://127.0.0.1:${port}`,
    port,
    signingJwk: keys.signing.privateJwk,
    clientJwk: keys.client.publicJwk,
    resource: PEER_RESOURCE,
    introspector: INTROSPECTOR,
  };
}

/** The peer's `client_credentials` with a new assertion each time: it verifies ES256, signs ES256 and keeps the `jti`. */
export function clientCredentials(peer: Peer, at: Workshop): Side {
  const pool = createPool("assertions", assertion(peer, PEER_RESOURCE), at);
  return {
    server: "peer",
    async prepare(count) {
      await pool.fill(count);
      return { url: `${peer.issuer}/token`, headers: {}, bodies: pool.path, repeat: false };
    },
    sent: pool.use,
    async check(body) {
      const answer = JSON.parse(body) as Record<string, unknown>;
      const claims = await verified(String(answer["access_token"]), `${peer.issuer}/jwks`);
      if (claims["iss"] !== peer.issuer || claims["aud"] !== PEER_RESOURCE || claims["scope"] !== "read_invoice") {
        throw new Error("the peer's token is not what was asked for");
      }
    },
  };
}

/** The peer's introspection of opaque tokens, which it looks up in memory. */
export function peerIntrospection(peer: Peer, at: Workshop): Side {
  const pool = createPool("opaque", assertion(peer, PEER_OPAQUE_RESOURCE), at);
  return {
    server: "peer",
    async prepare() {
      await pool.fill(TURNS);
      const lines = pool.lines();
      await pool.use(lines.length);
      const tokens = await Promise.all(lines.map((body) => post(`${peer.issuer}/token`, body)));
      const bodies = tokens.map((answer) => new URLSearchParams({ token: String(answer["access_token"]) }).toString());
      return {
        url: `${peer.issuer}/token/introspection`,
        headers: basic,
        bodies: await fixedPool("opaque-tokens", bodies, at.folder),
        repeat: true,
      };
    },
    sent: async () => {},
    async check(body) {
      const answer = JSON.parse(body) as Record<string, unknown>;
      if (answer["active"] !== true || answer["client_id"] !== "bot") throw new Error(`the peer answered ${body}`);
    },
  };
}

function assertion(peer: Peer, resource: string) {
  return {
    key: peer.clientKey,
    claims: { iss: "bot", sub: "bot", aud: peer.issuer },
    lifetimeSeconds: LIFETIME_SECONDS,
    form: {
      grant_type: "client_credentials",
      client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      client_assertion: "%TOKEN%",
      resource,
      scope: "read_invoice",
    },
  };
}

async function post(url: string, body: string): Promise<Record<string, unknown>> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body,
  });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${url} answered ${response.status} ${text}`);
  return JSON.parse(text) as Record<string, unknown>;
}

/** Claims of an ES256 token whose signature is good by a published key. */
async function verified(token: string, jwksUrl: string): Promise<Record<string, unknown>> {
  const { keys } = (await (await fetch(jwksUrl)).json()) as { keys: (JsonWebKey & { kid?: string })[] };
  const [header = "", payload = "", signature = ""] = token.split(".");
  const { alg, kid } = decode(header);
  const key = keys.find((candidate) => candidate.kid === kid);
  if (alg !== "ES256" || key === undefined) throw new Error("a token names a key that is not published");
  const isGood = verify(
    "sha256",
    Buffer.from(`${header}.${payload}`),
    { key: createPublicKey({ key, format: "jwk" }), dsaEncoding: "ieee-p1363" },
    Buffer.from(signature, "base64url"),
  );
  if (!isGood) throw new Error("a token's signature is wrong");
  return decode(payload);
}

function decode(part: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>;
}
