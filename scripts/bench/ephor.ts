/** Ephor for the bench: its build, its PostgreSQL (durable, and no part of the server's process), its trust, itself. */
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { copyFileSync, existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startEmbedded, type Embedded } from "../../src/db/embedded.ts";
import type { Cores } from "./cores.ts";
import { bringCrowd, type Crowd } from "./crowd.ts";
import { startProcess, type Started } from "./processes.ts";
import type { BenchKey } from "./tokens.ts";

/** Where workload tokens come from, and what they are spent at. */
export const WORKLOAD_ISSUER = "https://ci.bench.example";
export const RESOURCE = "https://billing.bench.example";
export const SCOPE = "billing:read_invoice";
/** The resource server's credentials at `/introspect`. */
export const INTROSPECTOR = { id: "billing", secret: randomBytes(32).toString("base64url") };

/** A credential resource of kind `static`, and what it gives. */
export const VENDED = "crm-key";
export const VENDED_VALUE = randomBytes(24).toString("base64url");

/** A resource behind the proxy. */
export const PROXIED = "echo";

/** Enough that no lookup is by luck. */
const AGENTS = 200;

/** Values of `sub` of the agents' workload tokens. */
export const SUBJECTS: readonly string[] = Array.from(
  { length: AGENTS },
  (_, i) => `system:serviceaccount:agents:bot-${i}`,
);

/** A running Ephor and its database. */
export interface Ephor {
  /** Seconds from the process's start until it listened. */
  readonly startSeconds: number;
  readonly issuer: string;
  readonly pid: number;
  readonly postmaster: number;
  stop(): Promise<void>;
}

const root = fileURLToPath(new URL("../../", import.meta.url));
/** Like an installed package: its package.json, and the build beside it. */
const INSTALLED = join(root, "node_modules/.cache/ephor-bench");
const BUILD = join(INSTALLED, "dist");

/** Compiles the sources as a release would. @throws {Error} when nothing came of it */
export function buildEphor(): void {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const { stdout, status } = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", BUILD], {
    cwd: root,
    encoding: "utf8",
  });
  if (status !== 0) console.error(`${stdout}The sources do not type-check; what was compiled of them runs.`);
  if (!existsSync(join(BUILD, "server.js"))) throw new Error("the build made nothing");
  copyFileSync(join(root, "package.json"), join(INSTALLED, "package.json"));
}

/** Starts database and server. @param o.keys those of the workload issuer */
export async function startEphor(o: {
  port: number;
  folder: string;
  cores: Cores;
  keys: readonly BenchKey[];
  node: readonly string[];
  /** Whom it knows beside the usual agents, and what was killed. */
  crowd?: Crowd;
  /** Address of the MCP server behind its proxy. */
  mcp?: string | undefined;
}): Promise<Ephor> {
  await mkdir(o.folder, { recursive: true });
  const database = await startEmbedded({ dataDirectory: join(o.folder, "postgres"), durable: true });
  const issuer = `http://127.0.0.1:${o.port}`;
  const trust = join(o.folder, "trust.yaml");
  await writeFile(trust, trustFile(issuer, o.keys, o.mcp));
  const start = (): Promise<Started> =>
    startProcess("./ephor-process.mjs", {
      run: o.cores.server,
      node: o.node,
      order: { build: BUILD },
      env: {
        EPHOR_LISTEN: `127.0.0.1:${o.port}`,
        EPHOR_DATA: join(o.folder, "data"),
        EPHOR_TRUST: trust,
        EPHOR_LOG_LEVEL: "warn",
        DATABASE_URL: database.adminUrl,
      },
    });
  let server: Started;
  let began = performance.now();
  try {
    server = await start();
    if (o.crowd !== undefined) {
      await server.stop();
      await bringCrowd(database.adminUrl, o.crowd);
      began = performance.now();
      server = await start();
    }
  } catch (error) {
    await database.stop();
    throw error;
  }
  const startSeconds = (performance.now() - began) / 1_000;
  await sealVended(issuer, join(o.folder, "data"));
  return { issuer, startSeconds, pid: server.pid, postmaster: database.pid, stop: () => stopBoth(server, database) };
}

async function sealVended(issuer: string, data: string): Promise<void> {
  const key = (await readFile(join(data, "operator-key"), "utf8")).trim();
  const response = await fetch(`${issuer}/v1/secrets/${VENDED}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ value: VENDED_VALUE }),
  });
  if (!response.ok) throw new Error(`the secret could not be sealed: ${response.status}`);
}

async function stopBoth(server: Started, database: Embedded): Promise<void> {
  await server.stop();
  await database.stop();
}

/** JSON is YAML. */
function trustFile(audience: string, keys: readonly BenchKey[], mcp: string | undefined): string {
  const agents = SUBJECTS.map(
    (sub, i) => [`bot-${i}`, { owner: "dana@bench.example", trust: [{ issuer: "ci", claims: { sub } }] }] as const,
  );
  return JSON.stringify({
    issuers: { ci: { url: WORKLOAD_ISSUER, audience, jwks: { keys: keys.map((key) => key.publicJwk) } } },
    agents: Object.fromEntries(agents),
    resources: {
      billing: {
        resource: RESOURCE,
        actions: ["read_invoice", "refund"],
        introspection: { secret_hash: `sha256:${createHash("sha256").update(INTROSPECTOR.secret).digest("hex")}` },
      },
      [VENDED]: { credential: { static: { secret: VENDED, disclose: true } } },
      ...(mcp !== undefined && {
        [PROXIED]: {
          mcp,
          limits: { concurrent: 1000 },
          inject: { header: "authorization", value: `Bearer {secret:${VENDED}}` },
        },
      }),
    },
    grants: [
      ...agents.map(([agent]) => ({ agent, resource: "billing", actions: ["read_invoice"] })),
      { agent: agents[0]?.[0], resource: VENDED, actions: ["vend"], residual: "unlimited" },
      ...(mcp !== undefined ? [{ agent: agents[0]?.[0], resource: PROXIED, actions: ["echo"] }] : []),
    ],
  });
}
