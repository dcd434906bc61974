import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as openid from "openid-client";
import type { ApplyResult } from "../../api/apply.ts";
import { loadConfig } from "../../config.ts";
import { readCliSettings } from "../../config/cli.ts";
import { createApiClient } from "../../sdk/client/api.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { createCast, makeToolSecret } from "./cast.ts";
import { startIssuer } from "./issuer.ts";
import { openOrders } from "./orders.ts";
import { createStage, DemoFailure } from "./stage.ts";
import { tell } from "./story.ts";
import { findTools } from "./tools.ts";
import { demoTrustFile } from "./trust-file.ts";

/** What was started, last first to end. */
type Cleanups = (() => Promise<unknown>)[];

/**
 * `ephor demo`: starts Ephor on a temporary folder with its embedded database, and a local OIDC issuer as a process of its own;
 * tells the story over HTTP with a public client library; ends and removes all of it, also when it fails or is interrupted.
 */
export async function demo(context: CliContext): Promise<ExitCode> {
  const cleanups: Cleanups = [];
  const startedMs = performance.now();
  context.print("Ephor, step by step. Everything runs on this machine, and is gone afterwards.", "");
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort(new CliFailure("interrupted; everything it started is gone"));
  process.once("SIGINT", interrupt);
  process.once("SIGTERM", interrupt);
  try {
    const { steps, claims } = await play(context, cleanups, interrupted.signal);
    const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
    context.print("", `Done: ${steps} steps, ${claims} claims checked, ${seconds} s.`);
  } catch (error) {
    throw error instanceof DemoFailure ? new CliFailure(error.message, { cause: error }) : error;
  } finally {
    for (const cleanUp of cleanups.toReversed()) await cleanUp();
    process.removeListener("SIGINT", interrupt);
    process.removeListener("SIGTERM", interrupt);
  }
  context.print(
    "",
    "To keep one running: npm start, and in another terminal",
    "  npx ephor apply -f examples/github-actions/trust.yaml",
    "README.md goes on from there.",
  );
  return EXIT.done;
}

async function play(
  context: CliContext,
  cleanups: Cleanups,
  signal: AbortSignal,
): Promise<{ steps: number; claims: number }> {
  const client = await loadClient();
  const tools = findTools();
  const directory = await mkdtemp(join(tmpdir(), "ephor-demo-"));
  cleanups.push(() => rm(directory, { recursive: true, force: true }));
  const starting = [
    startIssuer().then((started) => {
      cleanups.push(started.stop);
      context.print(`started  a local OIDC issuer, process ${started.pid}, at ${started.url}`);
      return started;
    }),
    startEphor(directory, tools.command[0]).then((started) => {
      cleanups.push(started.close);
      context.print(`started  Ephor with an embedded PostgreSQL, at ${started.url}`);
      return started;
    }),
  ] as const;
  // When one fails the other is waited for all the same: what has started must be known before it can be ended.
  await Promise.allSettled(starting);
  const [issuers, server] = await Promise.all(starting);
  const { url } = server;
  const operator = readCliSettings({ env: { EPHOR_URL: url, EPHOR_DATA: directory } });
  const api = createApiClient({ url, bearer: () => operator.operatorKey().reveal() });
  const { secret, hash } = makeToolSecret();
  const orders = await openOrders(directory);
  context.print("started  a database of orders beside Ephor's own; a login for it is in the vault");
  await api.put<object>("/v1/secrets/orders-maker", { value: JSON.stringify(orders.login) });
  await api.put<object>("/v1/secrets/everything-key", { value: tools.key });
  const { command } = tools;
  const file = demoTrustFile({ issuers: issuers.url, audience: url, secretHash: hash, orders, command });
  const applied = await api.post<ApplyResult>("/v1/apply", { source: "demo", file });
  context.print(`applied  a trust file: ${applied.changes.length} objects`);
  const stage = createStage(context, signal);
  await tell({ stage, cast: await createCast(client, { url, issuers, secret }), url, api }, tools);
  return stage;
}

/** A development dependency: there in a clone, not in an installed package. */
async function loadClient(): Promise<typeof openid> {
  try {
    return await import("openid-client");
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new CliFailure("the demonstration needs openid-client, which a clone has after `npm ci`", { cause: error });
  }
}

/** @param allowed the program of which MCP servers may be started */
async function startEphor(directory: string, allowed: string): Promise<{ url: string; close(): Promise<void> }> {
  const { startServer } = await import("../../server.ts");
  const config = loadConfig({
    env: { EPHOR_STDIO_ALLOW: allowed },
    workingDirectory: directory,
    flags: { listen: `127.0.0.1:${await freePort()}`, data: directory, logLevel: "silent", canary: "off" },
  });
  const server = await startServer(config, { durable: false });
  if (server.operatorKey.kind === "created") server.operatorKey.key.wipe();
  return server;
}

/** A port that nobody uses at this moment. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
