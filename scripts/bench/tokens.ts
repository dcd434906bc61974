/** What the load generator sends: signed before the clock runs, in processes of their own on all cores. */
import { generateKeyPairSync } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { askProcess } from "./processes.ts";

/** A key pair as JWKs. */
export interface BenchKey {
  readonly algorithm: "RS256" | "ES256";
  readonly kid: string;
  readonly privateJwk: Record<string, unknown>;
  readonly publicJwk: Record<string, unknown>;
}

/** A form with a token in it, to be made many times; `%TOKEN%` in a value is replaced by one with a new `jti` each time. */
export interface Recipe {
  readonly key: BenchKey;
  readonly claims: Readonly<Record<string, unknown>>;
  /** Values of `sub` in turn; `claims` has it where this is absent. */
  readonly subjects?: readonly string[];
  readonly lifetimeSeconds: number;
  readonly form: Readonly<Record<string, string>>;
}

/** Bodies of requests: a file with one a line. */
export interface Pool {
  readonly path: string;
  /** Those that were not taken out. */
  lines(): readonly string[];
  /** Makes what is missing from `count`. */
  fill(count: number): Promise<void>;
  /** Takes the first `count` out: they were sent. */
  use(count: number): Promise<void>;
}

/** Makes a key. */
export function benchKey(algorithm: BenchKey["algorithm"]): BenchKey {
  const pair =
    algorithm === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
  const kid = `bench-${algorithm.toLowerCase()}`;
  const members = { kid, alg: algorithm, use: "sig" };
  return {
    algorithm,
    kid,
    privateJwk: { ...pair.privateKey.export({ format: "jwk" }), ...members },
    publicJwk: { ...pair.publicKey.export({ format: "jwk" }), ...members },
  };
}

/** @param o.run a command line that lets a process use all cores, see `Cores` */
export function createPool(name: string, recipe: Recipe, o: { folder: string; run: readonly string[] }): Pool {
  const path = join(o.folder, `${name}.txt`);
  let lines: string[] = [];
  const store = (): Promise<void> => writeFile(path, lines.join("\n"));
  return {
    path,
    lines: () => lines,
    async fill(count) {
      const missing = count - lines.length;
      if (missing <= 0) return;
      const processes = availableParallelism();
      const share = Math.ceil(missing / processes);
      const made = await Promise.all(
        Array.from({ length: processes }, async (_, i) => {
          const part = `${path}.${i}`;
          await askProcess("./mint-process.mjs", { run: o.run, order: { ...recipe, count: share, path: part } });
          return (await readFile(part, "utf8")).split("\n");
        }),
      );
      lines = [...lines, ...made.flat()];
      await store();
    },
    async use(count) {
      lines = lines.slice(count);
      await store();
    },
  };
}

/** A pool of bodies that are there already. */
export async function fixedPool(name: string, bodies: readonly string[], folder: string): Promise<string> {
  const path = join(folder, `${name}.txt`);
  await writeFile(path, bodies.join("\n"));
  return path;
}
