/** Real servers, each in a process of its own as `npm start` runs it, on one real database. Clocks are real here. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Cleanup } from "./database.ts";
import { startIssuer, type TestIssuer } from "./oidc-issuer.ts";
import { ownDatabase, type OwnDatabase } from "./own-database.ts";
import { PROGRAM } from "./program.ts";
import { freePort, JWT_TYPE, settled, TOKEN_EXCHANGE, usualTrust, type Answer, type Form } from "./world.ts";

/** A start on a busy machine, in real ms. */
const START_MS = 60_000;
/** How long somebody may be told to come later, in real ms. */
const LATER_MS = 10_000;

/** One server process. */
export interface Replica {
  readonly url: string;
  readonly child: ChildProcess;
  /** What it said on standard error so far. */
  said(): string;
  /** Resolves with its exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
}

/** Where a server runs, if not simply on this machine. */
export interface Place {
  /** A command line in front of the program's that becomes the program. */
  readonly command: readonly string[];
  /** The address that it listens on. */
  readonly host: string;
}

/** Real servers on one database. */
export interface Replicas {
  readonly database: OwnDatabase;
  readonly workloads: TestIssuer;
  readonly humans: TestIssuer;
  readonly issuer: string;
  readonly operatorKey: string;
  readonly all: Replica[];
  /** The environment of another one. */
  readonly env: NodeJS.ProcessEnv;
  /** Starts one more; its port is new unless given. */
  start(o?: { port?: number; env?: NodeJS.ProcessEnv; place?: Place }): Promise<Replica>;
  /** Applies the usual trust, changed. */
  apply(edit: (usual: string) => string): Promise<void>;
  workload(agent: string, claims?: Record<string, unknown>): string;
  human(sub?: string): string;
  post(replica: Replica, path: string, form: Form): Promise<Answer>;
  operator(replica: Replica, method: string, path: string, body?: unknown): Promise<Answer>;
  self(replica: Replica, agent: string, form?: Form & { token?: string }): Promise<Answer>;
  /** Likewise a token, as clients get one: told to come later, as a machine that is held up tells them, they do. */
  minted(replica: Replica, agent: string, form?: Form): Promise<string>;
}

/** Starts servers on a durable database of their own, applies the usual trust. */
export async function replicas(t: Cleanup, o: { count: number; env?: NodeJS.ProcessEnv }): Promise<Replicas> {
  const [database, workloads, humans] = await Promise.all([
    ownDatabase(t, { durable: true }),
    startIssuer(t),
    startIssuer(t),
  ]);
  const data = await mkdtemp(join(tmpdir(), "ephor-replicas-"));
  t.after(() => rm(data, { recursive: true, force: true }));
  const operatorKey = `ephor_op_${randomBytes(32).toString("base64url")}`;
  await writeFile(join(data, "seed"), operatorKey, { mode: 0o600 });
  const port = await freePort();
  const issuer = `http://127.0.0.1:${port}`;
  const env = {
    ...cleanEnvironment(),
    DATABASE_URL: database.url,
    EPHOR_DATA: join(data, "ephor"),
    EPHOR_ISSUER: issuer,
    EPHOR_OPERATOR_KEY_FILE: join(data, "seed"),
    EPHOR_CANARY: "off",
    ...o.env,
  };
  const all: Replica[] = [];
  const start: Replicas["start"] = async (one = {}) => {
    const replica = await serve(t, { ...env, ...one.env }, { port: one.port ?? (await freePort()), ...one.place });
    all.push(replica);
    return replica;
  };
  const first = await start({ port });
  await Promise.all(Array.from({ length: o.count - 1 }, () => start()));

  const now = (): number => Math.floor(Date.now() / 1_000);
  const made: Replicas = {
    database,
    workloads,
    humans,
    issuer,
    operatorKey,
    all,
    env,
    start,
    async apply(edit) {
      const usual = usualTrust({ workloads, humans })
        .replace("AGENT_KEY", JSON.stringify({ kty: "EC", crv: "P-256", ...point }))
        .replace("BILLING_HASH", "sha256:d62e51d2a0ab78bc7aab374fc8049db7aad573ee13def852a65d470e12416ced")
        .replaceAll("OUR_ISSUER", issuer);
      const file = edit(usual);
      const applied = await settled(() => made.operator(first, "POST", "/v1/apply", { source: "trust.yaml", file }));
      assert.equal(applied.status, 200, applied.text);
    },
    workload: (agent, claims = {}) =>
      workloads.mint({ sub: `system:serviceaccount:agents:${agent}`, aud: issuer, ...claims }, { now: now() }),
    human: (sub = "00u1ab") =>
      humans.mint({ sub, aud: "api://ephor", nonce: "n", auth_time: now() - 60, groups: ["support"] }, { now: now() }),
    post(replica, path, form) {
      const body = new URLSearchParams();
      for (const [name, value] of Object.entries(form)) if (typeof value === "string") body.append(name, value);
      return request(`${replica.url}${path}`, {
        method: "POST",
        body: body.toString(),
        headers: { "content-type": "application/x-www-form-urlencoded" },
      });
    },
    operator: (replica, method, path, body) =>
      request(replica.url + path, {
        method,
        headers: { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    self: (replica, agent, { token, ...form } = {}) =>
      made.post(replica, "/token", {
        grant_type: TOKEN_EXCHANGE,
        subject_token: token ?? made.workload(agent),
        subject_token_type: JWT_TYPE,
        resource: "https://billing.acme.example",
        scope: "billing:read_invoice",
        ...form,
      }),
    async minted(replica, agent, form) {
      for (const deadline = performance.now() + LATER_MS; ;) {
        const answer = await made.self(replica, agent, form);
        if (answer.status === 200) return String(answer.body["access_token"]);
        assert.ok(answer.status === 503 && performance.now() < deadline, `${answer.status} ${answer.text}`);
        await pause(20);
      }
    },
  };
  await made.apply((text) => text);
  return made;
}

/** A public key whose private part nobody has. */
const point = {
  x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
  y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
};

/** Starts `ephor serve` and waits until it listens. */
async function serve(
  t: Cleanup,
  env: NodeJS.ProcessEnv,
  { port, host = "127.0.0.1", command = [] }: Partial<Place> & { port: number },
): Promise<Replica> {
  const { child, said, ended } = run(["serve"], { ...env, EPHOR_LISTEN: `${host}:${port}` }, command);
  t.after(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const late = AbortSignal.timeout(START_MS);
  while (!said().includes("listens on")) {
    const [event] = await Promise.race([
      once(child.stderr as NonNullable<ChildProcess["stderr"]>, "data", { signal: late }),
      ended.then(() => ["ended"]),
    ]);
    assert.notEqual(event, "ended", `the server ended: ${said()}`);
  }
  return { url: `http://${host}:${port}`, child, said, ended };
}

/** Runs the program as a user would. @param before a command line that becomes the program */
export function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  before: readonly string[] = [],
): Omit<Replica, "url"> & { out(): string } {
  const [program = process.execPath, ...rest] = [...before, process.execPath, PROGRAM, ...args];
  const child = spawn(program, rest, { env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  let out = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(child, "close").then(([code, signal]) => (code ?? signal) as number | string);
  return { child, said: () => said, out: () => out, ended };
}

/** This shell's, without what Ephor and PostgreSQL would read from it. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(EPHOR_|PG|DATABASE_URL$|NODE_)/.test(name)),
  );
}

async function request(url: string, init: RequestInit): Promise<Answer> {
  const response = await fetch(url, init);
  const text = await response.text();
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // Not every answer is JSON.
  }
  return { status: response.status, headers: response.headers, body, text };
}
