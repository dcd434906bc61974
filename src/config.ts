/**
 * The configuration: the only reader of the environment and of the configuration file. What it returns is checked as a
 * whole, frozen, and has its units in its names; what is unsafe stops the start (CONTRACT §3, INV-30).
 */
import { readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { URL } from "node:url";
import { ConfigError } from "./config/error.ts";
import type { ConfigProblem } from "./config/error.ts";
import { HiddenText } from "./config/hidden.ts";
import { isWorldReadable, readSecretFile, resolveSettings } from "./config/resolve.ts";
import type { ConfigFiles, ConfigFlags, Environment, Resolved } from "./config/resolve.ts";
import type { SigningAlgorithm } from "./config/settings.ts";
import { DEFAULT_LIFETIME_SECONDS } from "./core/token/lifetime.ts";
import { isLoopbackHost } from "./config/values.ts";
import type { ListenAddress } from "./config/values.ts";

/** Where the key that seals all others comes from. */
export interface KekSource {
  /** `file:PATH` (absolute), `env:NAME`, `awskms:ARN` or `vault-transit:URL#key`. */
  readonly source: string;
  /** What the variable of `env:NAME`, or the file of its `_FILE` twin, holds; null for the other kinds. */
  readonly value: HiddenText | null;
}

/** How this server runs. Null means: not configured. Paths are absolute. */
export interface Config {
  /** `iss` of our tokens and the base of every URL; without trailing slash. */
  readonly issuer: string;
  /** False: `issuer` follows from where it listens, and gives way to what replicas on one database agreed on. */
  readonly isIssuerGiven: boolean;
  readonly listen: ListenAddress;
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null;
  /** Addresses and networks (CIDR) whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: readonly string[];
  readonly dataDirectory: string;
  /** A PostgreSQL URL; null means the embedded database. */
  readonly database: HiddenText | null;
  /** The role that owns and migrates, where it is another. */
  readonly databaseAdmin: HiddenText | null;
  readonly kek: KekSource;
  readonly anchor: { readonly kind: "file"; readonly path: string } | null;
  readonly trustFile: string | null;
  readonly applyOnStart: boolean;
  readonly tasks: { readonly defaultSeconds: number; readonly maxSeconds: number };
  /** What a token lives when the request names no `ttl`; at most 59. */
  readonly tokens: { readonly ttlSeconds: number };
  /** A listener of its own for `/metrics`; null means that `/metrics` answers loopback only. */
  readonly metrics: ListenAddress | null;
  /** Where it is set, transaction tokens are served. */
  readonly trustDomain: string | null;
  readonly keys: { readonly algorithm: SigningAlgorithm; readonly rotateEverySeconds: number };
  readonly logLevel: "debug" | "info" | "warn" | "error" | "silent";
  /** Processes on this machine. */
  readonly workers: number;
  /** Seeds the first operator key instead of making one. */
  readonly operatorKey: HiddenText | null;
}

/** What `loadConfig` reads; in tests all of it is handed in. */
export interface ConfigInput {
  /** `--config`; beats `EPHOR_CONFIG`. */
  readonly file?: string | undefined;
  readonly flags?: ConfigFlags;
  readonly env?: Environment;
  readonly files?: ConfigFiles;
  readonly workingDirectory?: string;
}

const DEFAULT_LISTEN: ListenAddress = { host: "127.0.0.1", port: 8460 };
const DEFAULT_DATA = "ephor-data";
const DEFAULT_TASK_SECONDS = 3_600;
const DEFAULT_MAX_TASK_SECONDS = 12 * 3_600;
/** A month: long enough that caches of the JWKS never matter, short enough that a rotation is routine. */
const DEFAULT_ROTATE_SECONDS = 30 * 86_400;

/**
 * Reads, checks and freezes the configuration.
 *
 * @throws {ConfigError} naming file, line, key and mend of everything that is wrong; no value is quoted
 */
export function loadConfig(input: ConfigInput = {}): Config {
  const env = input.env ?? process.env;
  const files = input.files ?? diskFiles;
  const workingDirectory = input.workingDirectory ?? process.cwd();
  const named = input.file ?? (env["EPHOR_CONFIG"] || undefined);
  const file = named === undefined ? undefined : resolve(workingDirectory, named);
  const problems: ConfigProblem[] = [];
  const given = resolveSettings({ flags: input.flags ?? {}, env, files, file, workingDirectory }, problems);
  const config = assemble(given, { env, files, workingDirectory, problems });
  refuseUnsafe(config, given, { env, files, problems });
  if (problems.length > 0) throw new ConfigError(problems);
  return deepFreeze(config);
}

interface Surroundings {
  readonly env: Environment;
  readonly files: ConfigFiles;
  readonly problems: ConfigProblem[];
}

function assemble(given: Resolved, around: Surroundings & { workingDirectory: string }): Config {
  const listen = given.get("listen") ?? DEFAULT_LISTEN;
  const dataDirectory = given.get("data") ?? resolve(around.workingDirectory, DEFAULT_DATA);
  const certFile = given.get("tlsCert");
  const keyFile = given.get("tlsKey");
  const hidden = (text: string | undefined): HiddenText | null => (text === undefined ? null : new HiddenText(text));
  return {
    isIssuerGiven: given.get("issuer") !== undefined,
    issuer: given.get("issuer") ?? issuerOf(listen, certFile !== undefined),
    listen,
    tls: certFile !== undefined && keyFile !== undefined ? { certFile, keyFile } : null,
    trustedProxies: given.get("trustedProxies") ?? [],
    dataDirectory,
    database: hidden(given.get("database")),
    databaseAdmin: hidden(given.get("databaseAdmin")),
    kek: kekSource(given, dataDirectory, around),
    anchor: given.get("anchor") ?? null,
    trustFile: given.get("trust") ?? null,
    applyOnStart: given.get("applyOnStart") ?? false,
    tasks: {
      defaultSeconds: given.get("tasksDefault") ?? DEFAULT_TASK_SECONDS,
      maxSeconds: given.get("tasksMax") ?? DEFAULT_MAX_TASK_SECONDS,
    },
    tokens: { ttlSeconds: given.get("tokensTtl") ?? DEFAULT_LIFETIME_SECONDS },
    metrics: given.get("metrics") ?? null,
    trustDomain: given.get("trustDomain") ?? null,
    keys: {
      algorithm: given.get("keysAlgorithm") ?? "ES256",
      rotateEverySeconds: given.get("keysRotateEvery") ?? DEFAULT_ROTATE_SECONDS,
    },
    logLevel: given.get("logLevel") ?? "info",
    workers: given.get("workers") ?? 1,
    operatorKey: hidden(given.get("operatorKey")),
  };
}

function issuerOf({ host, port }: ListenAddress, isTls: boolean): string {
  const bracketed = host.includes(":") ? `[${host}]` : host;
  return new URL(`${isTls ? "https" : "http"}://${bracketed}:${port}`).origin;
}

function kekSource(given: Resolved, dataDirectory: string, { env, files, problems }: Surroundings): KekSource {
  const kek = given.get("kek") ?? { kind: "file", path: join(dataDirectory, "kek") };
  if (kek.kind === "file") return { source: `file:${kek.path}`, value: null };
  if (kek.kind === "awskms") return { source: `awskms:${kek.keyArn}`, value: null };
  if (kek.kind === "vault-transit") return { source: `vault-transit:${kek.url}#${kek.key}`, value: null };
  const twin = env[`${kek.name}_FILE`];
  const text = env[kek.name] || (twin && !isWorldReadable(twin, files) ? readSecretFile(twin, files) : undefined);
  if (text === undefined) {
    problems.push({
      ...given.place("kek"),
      problem: `names the variable ${kek.name}, which is not set`,
      mend: `Set ${kek.name}, or ${kek.name}_FILE to a file that only this user can read`,
    });
  }
  return { source: `env:${kek.name}`, value: new HiddenText(text ?? "") };
}

/** What no single setting shows: combinations that would run, and would not be safe. */
function refuseUnsafe(config: Config, given: Resolved, { env, files, problems }: Surroundings): void {
  const refuse = (name: Parameters<Resolved["place"]>[0], problem: string, mend: string): void => {
    problems.push({ ...given.place(name), problem, mend });
  };
  if (env["NODE_TLS_REJECT_UNAUTHORIZED"] === "0") {
    problems.push({
      key: "NODE_TLS_REJECT_UNAUTHORIZED",
      problem: "is 0, so that no certificate would be checked",
      mend: "Unset it; name a private CA with NODE_EXTRA_CA_CERTS",
    });
  }
  if (!given.has("issuer")) {
    if (!isLoopbackHost(config.listen.host)) {
      refuse(
        "issuer",
        "is not set although the listener is public",
        "Set issuer to the https URL by which clients reach it",
      );
    } else if (config.listen.port === 0) {
      refuse("issuer", "is not set although the port is left to the system", "Set issuer, or name a port");
    }
  }
  if (given.has("tlsCert") !== given.has("tlsKey")) {
    refuse("tlsCert", "and tls.key belong together", "Set both, or neither");
  }
  if (config.tasks.defaultSeconds > config.tasks.maxSeconds) {
    refuse("tasksDefault", "is longer than tasks.max", "Lower it, or raise tasks.max");
  }
  if (given.has("databaseAdmin") && !given.has("database")) {
    refuse("databaseAdmin", "is set without database", "Set DATABASE_URL too; the embedded database needs neither");
  }
  const { metrics, listen } = config;
  if (metrics !== null && metrics.port !== 0 && metrics.port === listen.port) {
    refuse("metrics", "has the port of the main listener", "Give it a port of its own");
  }
  if (config.applyOnStart && !given.has("trust")) {
    refuse("applyOnStart", "is set without a trust file", "Set trust to the file that shall be applied");
  }
  const keyFiles = [
    { name: "tlsKey", path: config.tls?.keyFile },
    { name: "kek", path: config.kek.source.startsWith("file:") ? config.kek.source.slice("file:".length) : undefined },
  ] as const;
  for (const { name, path } of keyFiles) {
    if (path !== undefined && isWorldReadable(path, files)) {
      refuse(name, "is a key file that every user of this machine can read", "Run chmod o-r on it");
    }
  }
}

const diskFiles: ConfigFiles = {
  read: (path) => readFileSync(path, "utf8"),
  mode: (path) => {
    // Windows has no permission bits that mean anything.
    if (process.platform === "win32") return undefined;
    return statSync(path, { throwIfNoEntry: false })?.mode;
  },
};

function deepFreeze<T extends object>(value: T): T {
  for (const member of Object.values(value)) {
    if (typeof member === "object" && member !== null && !(member instanceof HiddenText)) deepFreeze(member);
  }
  return Object.freeze(value);
}
