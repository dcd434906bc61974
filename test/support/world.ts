import assert from "node:assert/strict";
import { randomUUID, type KeyObject } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config.ts";
import { startServer, type RunningServer } from "../../src/server.ts";
import type { ResolveAll } from "../../src/system/egress-connector.ts";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { createLog } from "../../src/system/log.ts";
import { testDatabase, type Cleanup, type TestDatabase } from "./database.ts";
import { handClock, type HandClock } from "./hand-clock.ts";
import { signJws } from "../../src/system/jws-signature.ts";
import { startIssuer, type TestIssuer } from "./oidc-issuer.ts";

export const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
export const JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";
export const JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt";
export const ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token";
export const ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token";
export const TASK_TYPE = "urn:ephor:params:oauth:token-type:task";
export const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** 2026-11-21T18:00:00Z. */
export const START = 1_795_284_000;

/** Secret of the resource server `billing`. */
export const BILLING_SECRET = "billing-secret-0123456789abcdefghijklmnopqrstuv";
/** SHA-256 of it, as the trust file has it. */
export const BILLING_HASH = "sha256:d62e51d2a0ab78bc7aab374fc8049db7aad573ee13def852a65d470e12416ced";

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
  readonly text: string;
}

/** A real server over HTTP, a real database, a real issuer of workloads and one of humans, and clocks that are moved by hand. */
export interface World extends TestDatabase {
  readonly server: RunningServer;
  readonly url: string;
  /** The owner's URL of the database. */
  readonly databaseUrl: string;
  readonly clock: HandClock;
  readonly workloads: TestIssuer;
  readonly humans: TestIssuer;
  readonly operatorKey: string;
  /** The data folder, where the key-encryption key is. */
  readonly data: string;
  /** Key of the agent `keyed-bot`. */
  readonly agentKey: KeyObject;
  readonly lines: string[];
  now(): number;
  /** A workload token of an agent, by the rule `sub: system:serviceaccount:agents:<name>`. */
  workload(
    agent: string,
    claims?: Record<string, unknown>,
    options?: { ttl?: number; header?: Record<string, unknown> },
  ): string;
  /** An ID token of a human. */
  human(sub?: string, claims?: Record<string, unknown>): string;
  privateKeyJwt(claims?: Record<string, unknown>): string;
  post(path: string, form: Form, headers?: Record<string, string>): Promise<Answer>;
  /** An operator's request to `/v1`. */
  operator(method: string, path: string, body?: unknown): Promise<Answer>;
  request(method: string, path: string, o?: { body?: unknown; headers?: Record<string, string> }): Promise<Answer>;
  /** Applies more trust, as an operator. */
  apply(yaml: string, source?: string): Promise<void>;
  /** Token exchange by an agent for itself. */
  self(agent: string, o: Form & { token?: string }): Promise<Answer>;
  /** The newest events, newest first. */
  events(filter?: Record<string, string>): Promise<Record<string, unknown>[]>;
  /** Another replica on the same database. */
  replica(): Promise<{ server: RunningServer; url: string }>;
}

/** Form parameters; an array repeats one. */
export type Form = Record<string, string | readonly string[] | undefined>;

/**
 * Starts a world with the usual trust.
 *
 * @param options.start seconds since the epoch at which its clock stands
 * @param options.clock a running one for clients that have clocks of their own
 */
export async function world(
  t: Cleanup,
  options: {
    trust?: (issuers: { workloads: TestIssuer; humans: TestIssuer }) => string;
    env?: Record<string, string>;
    resolve?: ResolveAll;
    start?: number;
    clock?: HandClock;
    /** The database's clock, where it is not to follow the machine's. */
    readTimeMs?: (clock: HandClock) => number;
    /** Another database than one of the run's server. */
    database?: TestDatabase;
  } = {},
): Promise<World> {
  const [database, workloads, humans] = await Promise.all([
    options.database ?? testDatabase(t),
    startIssuer(t),
    startIssuer(t),
  ]);
  const clock = options.clock ?? handClock(options.start ?? START);
  const data = await mkdtemp(join(tmpdir(), "ephor-world-"));
  t.after(() => rm(data, { recursive: true, force: true }));
  const lines: string[] = [];
  const log = createLog({ level: "debug", destination: { write: (line: string) => void lines.push(line) } });
  const { privateKey, publicKey } = makeKeyPair("P-256");

  const port = await freePort();
  const start = async (listen: string): Promise<RunningServer> => {
    const config = loadConfig({
      env: {
        EPHOR_LISTEN: listen,
        EPHOR_ISSUER: `http://127.0.0.1:${port}`,
        EPHOR_DATA: data,
        DATABASE_URL: database.url,
        EPHOR_CANARY: "off",
        ...options.env,
      },
    });
    const server = await startServer(config, {
      clock,
      readTimeMs: async () => options.readTimeMs?.(clock) ?? clock.nowMs(),
      log,
      durable: false,
      ...(options.resolve === undefined ? {} : { resolve: options.resolve }),
    });
    t.after(() => server.close());
    return server;
  };
  const server = await start(`127.0.0.1:${port}`);
  const operatorKey = (await readFile(join(data, "operator-key"), "utf8")).trim();

  const request = async (
    method: string,
    path: string,
    o: { body?: unknown; headers?: Record<string, string> } = {},
  ): Promise<Answer> => {
    const response = await fetch(path.startsWith("http") ? path : server.url + path, {
      method,
      redirect: "manual",
      headers: {
        ...(o.body === undefined || typeof o.body === "string" ? {} : { "content-type": "application/json" }),
        ...o.headers,
      },
      ...(o.body === undefined ? {} : { body: typeof o.body === "string" ? o.body : JSON.stringify(o.body) }),
    });
    const text = await response.text();
    let body: Record<string, unknown> = {};
    try {
      body = JSON.parse(text) as Record<string, unknown>;
    } catch {
      // Not every answer is JSON.
    }
    return { status: response.status, headers: response.headers, body, text };
  };

  const made: World = {
    ...database,
    server,
    url: server.url,
    databaseUrl: database.url,
    clock,
    workloads,
    humans,
    operatorKey,
    data,
    agentKey: privateKey,
    lines,
    now: () => Math.floor(clock.nowMs() / 1000),
    workload: (agent, claims = {}, o = {}) =>
      workloads.mint(
        { sub: `system:serviceaccount:agents:${agent}`, aud: server.issuer, jti: randomUUID(), ...claims },
        { now: made.now(), ttl: o.ttl ?? 600, ...(o.header === undefined ? {} : { header: o.header }) },
      ),
    human: (sub = "00u1ab", claims = {}) =>
      humans.mint(
        {
          sub,
          aud: "api://ephor",
          jti: randomUUID(),
          nonce: "n",
          auth_time: made.now() - 60,
          groups: ["support"],
          email: `${sub}@acme.example`,
          ...claims,
        },
        { now: made.now(), ttl: 3600 },
      ),
    privateKeyJwt: (claims = {}) =>
      signJws("ES256", privateKey, {
        encodedHeader: Buffer.from('{"alg":"ES256"}').toString("base64url"),
        claims: {
          iss: "keyed-bot",
          sub: "keyed-bot",
          aud: server.issuer,
          jti: randomUUID(),
          iat: made.now(),
          exp: made.now() + 60,
          ...claims,
        },
      }),
    request,
    async post(path, form, headers = {}) {
      const body = new URLSearchParams();
      for (const [name, value] of Object.entries(form)) {
        if (value === undefined) continue;
        for (const one of typeof value === "string" ? [value] : value) body.append(name, one);
      }
      return request("POST", path, {
        body: body.toString(),
        headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
      });
    },
    operator: (method, path, body) =>
      request(method, path, { body, headers: { authorization: `Bearer ${operatorKey}` } }),
    async apply(yaml, source = "more.yaml") {
      const answer = await settled(() => made.operator("POST", "/v1/apply", { source, file: yaml }));
      assert.equal(answer.status, 200, answer.text);
    },
    self: (agent, { token, ...form }) =>
      made.post("/token", {
        grant_type: TOKEN_EXCHANGE,
        subject_token: token ?? made.workload(agent),
        subject_token_type: JWT_TYPE,
        ...form,
      }),
    async events(filter = {}) {
      const answer = await made.operator("GET", `/v1/audit?${new URLSearchParams({ limit: "50", ...filter })}`);
      assert.equal(answer.status, 200, answer.text);
      return answer.body["events"] as Record<string, unknown>[];
    },
    async replica() {
      const another = await start("127.0.0.1:0");
      return { server: another, url: another.url };
    },
  };
  const jwk = publicKey.export({ format: "jwk" });
  const trust = (options.trust ?? usualTrust)({ workloads, humans });
  await made.apply(
    trust
      .replace("AGENT_KEY", JSON.stringify(jwk))
      .replace("BILLING_HASH", BILLING_HASH)
      .replaceAll("OUR_ISSUER", server.issuer),
    "trust.yaml",
  );
  return made;
}

/** Longest wait for a replica that its machine held up, and that so releases nothing for a moment, in real ms. */
const SETTLED_MS = 10_000;

/** The first answer that is not 503: for what comes before a test's own matter, and may be sent again. */
export async function settled(send: () => Promise<Answer>): Promise<Answer> {
  const late = performance.now() + SETTLED_MS;
  for (;;) {
    const answer = await send();
    if (answer.status !== 503 || performance.now() > late) return answer;
  }
}

/** Ports for `freePort`: the system gives them to nobody who asks for any, so that nobody takes one before its server listens. */
const PORTS = { first: 11_000, count: 21_000 } as const;
/** Files that run at once begin far from each other. */
let lastPort = (process.pid * 100) % PORTS.count;

/** A port that nobody listens on, and that is given out once; clients discover us by the issuer, so it must be known before the start. */
export async function freePort(): Promise<number> {
  for (;;) {
    lastPort = (lastPort + 1) % PORTS.count;
    const port = PORTS.first + lastPort;
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** Two issuers, a few agents, resources of each kind that this version serves, and grants between them. */
export function usualTrust({ workloads, humans }: { workloads: TestIssuer; humans: TestIssuer }): string {
  const agent = (name: string): string => `
  ${name}:
    owner: dana@acme.example
    trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:${name}" } }]`;
  return `
issuers:
  cluster: { url: "${workloads.url}", audience: "OUR_ISSUER", internal: true }
  okta: { url: "${humans.url}", audience: "api://ephor", identifies: humans, internal: true }
agents:${["triage-bot", "summary-bot", "release-bot", "lonely-bot", "billing-svc", "watch-bot"].map(agent).join("")}
  keyed-bot:
    owner: sam@acme.example
    keys: [AGENT_KEY]
resources:
  billing:
    resource: https://billing.acme.example
    actions: [read_invoice, refund]
    introspection: { secret_hash: "BILLING_HASH" }
  ledger:
    resource: https://ledger.acme.example
    actions: [read, write]
    introspection: { agent: billing-svc }
grants:
  - { agent: release-bot, resource: billing, actions: [read_invoice] }
  - { agent: release-bot, delegate_to: [summary-bot, triage-bot] }
  - { agent: keyed-bot, resource: billing, actions: [read_invoice, refund] }
  - { agent: triage-bot, resource: billing, actions: [read_invoice, refund], on_behalf_of: { issuer: okta, claims: { groups: support } } }
  - { agent: triage-bot, resource: ledger, actions: [read], on_behalf_of: [{ issuer: okta }] }
  - { agent: triage-bot, delegate_to: [summary-bot], on_behalf_of: { issuer: okta } }
  - { agent: summary-bot, resource: billing, actions: [read_invoice], on_behalf_of: [{ issuer: okta }, { agent: release-bot }] }
  - { agent: summary-bot, resource: ledger, actions: [read, write], on_behalf_of: { issuer: okta } }
  - { agent: watch-bot, resource: ephor, actions: [read, audit] }
`;
}
