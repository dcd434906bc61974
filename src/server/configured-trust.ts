import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Config } from "../config.ts";
import { TrustRefusedError } from "../registry/errors.ts";
import type { Registry } from "../registry/registry.ts";
import type { Log } from "../system/log.ts";

/** The trust file that the configuration names cannot be applied; the message lists what is wrong, line by line. */
export class ConfiguredTrustError extends Error {
  constructor(path: string, detail: string) {
    super(`trust file ${path}: ${detail}`);
    this.name = "ConfiguredTrustError";
  }
}

/**
 * Applies the configured trust file at the start: once, or with `apply_on_start` at every start (CONTRACT §4).
 *
 * @throws {ConfiguredTrustError}
 */
export async function applyConfiguredTrust(config: Config, registry: Registry, log: Log): Promise<void> {
  const path = config.trustFile;
  if (path === null) return;
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw new ConfiguredTrustError(path, `cannot be read (${error.code ?? "unknown"})`);
  });
  try {
    const applied = await registry.applyAtStart(
      { source: basename(path), text, actor: { type: "operator", id: "start" } },
      config.applyOnStart ? "every" : "first",
    );
    log.info("trust_applied", { source: basename(path), outcome: applied.outcome });
  } catch (error) {
    if (!(error instanceof TrustRefusedError)) throw error;
    const problems = error.problems.map(
      (p) => `\n  ${p.line === undefined ? "" : `line ${p.line}: `}${p.key}: ${p.what} – ${p.mend}`,
    );
    const superseded =
      error.code === "trust_superseded"
        ? "was applied before and a later one took its place; use `ephor apply`"
        : error.code;
    throw new ConfiguredTrustError(path, problems.length > 0 ? problems.join("") : superseded);
  }
}
