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
import type { KekReference, ListenAddress } from "./config/values.ts";

/** Where the key that seals all others comes from. */
export interface KekSource {
  /** `file:PATH` (absolute), `env:NAME`, `awskms:ARN` or `vault-transit:URL#key`. */
  readonly source: string;
  /** What the variable of `env:NAME`, or the file of its `_FILE` twin, holds; Vault's token; null for the other kinds. */
  readonly value: HiddenText | null;
  /** `AWS_ENDPOINT_URL_KMS`: in place of the region's endpoint of AWS KMS. */
  readonly endpoint?: string;
  /** `VAULT_NAMESPACE`. */
  readonly namespace?: string;
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
  /** Another key that opens what it sealed, and seals nothing: the one before, until everything is rewrapped. */
  readonly kekPrevious: KekSource | null;
  readonly anchor: { readonly kind: "file"; readonly path: string } | null;
  readonly trustFile: string | null;
  readonly applyOnStart: boolean;
  /** This database is the right one, though the anchor is missing or knows more; for one start. */
  readonly acceptDatabase: boolean;
  readonly tasks: { readonly defaultSeconds: number; readonly maxSeconds: number };
  /** What a token lives when the request names no `ttl`; at most 59. */
  readonly tokens: { readonly ttlSeconds: number };
  /** A listener of its own for `/metrics`; null means that `/metrics` answers loopback only. */
  readonly metrics: ListenAddress | null;
  /** Seconds from one canary to the next, which measures how fast kills are; null: there is none. */
  readonly canarySeconds: number | null;
  /** Absolute paths of the programs that `mcp: {command: […]}` may name; none: no local server is started. */
  readonly stdio: { readonly allow: readonly string[] };
  /** Where it is set, transaction tokens are served. */
  readonly trustDomain: string | null;
  readonly keys: { readonly algorithm: SigningAlgorithm; readonly rotateEverySeconds: number };
  readonly logLevel: "debug" | "info" | "warn" | "error" | "silent";
  /** Processes on this machine. */
  readonly workers: number;
  /** Seeds the first operator key instead of making one. */
  readonly operatorKey: HiddenText | null;
  /** AWS's own variables, for credential resources that say `environment: true`; null where they are not all there. */
  readonly aws: AwsEnvironment | null;
}

/** Keys of AWS that this process was started with. */
export interface AwsEnvironment {
  readonly accessKeyId: string;
  readonly secretAccessKey: HiddenText;
  readonly sessionToken: HiddenText | null;
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
/** Often enough that an alert on a silent canary needs a minute (CONTRACT §6). */
const DEFAULT_CANARY_SECONDS = 10;
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
    kek: kekSource(given.get("kek") ?? { kind: "file", path: join(dataDirectory, "kek") }, given.place("kek"), around),
    kekPrevious: previousKek(given, around),
    anchor: given.get("anchor") ?? null,
    trustFile: given.get("trust") ?? null,
    applyOnStart: given.get("applyOnStart") ?? false,
    acceptDatabase: given.get("acceptDatabase") ?? false,
    tasks: {
      defaultSeconds: given.get("tasksDefault") ?? DEFAULT_TASK_SECONDS,
      maxSeconds: given.get("tasksMax") ?? DEFAULT_MAX_TASK_SECONDS,
    },
    tokens: { ttlSeconds: given.get("tokensTtl") ?? DEFAULT_LIFETIME_SECONDS },
    metrics: given.get("metrics") ?? null,
    canarySeconds: given.has("canary") ? (given.get("canary") ?? null) : DEFAULT_CANARY_SECONDS,
    stdio: { allow: given.get("stdioAllow") ?? [] },
    trustDomain: given.get("trustDomain") ?? null,
    keys: {
      algorithm: given.get("keysAlgorithm") ?? "ES256",
      rotateEverySeconds: given.get("keysRotateEvery") ?? DEFAULT_ROTATE_SECONDS,
    },
    logLevel: given.get("logLevel") ?? "info",
    workers: given.get("workers") ?? 1,
    operatorKey: hidden(given.get("operatorKey")),
    aws: awsEnvironment(around.env),
  };
}

function awsEnvironment(env: Environment): AwsEnvironment | null {
  const accessKeyId = env["AWS_ACCESS_KEY_ID"];
  const secretAccessKey = env["AWS_SECRET_ACCESS_KEY"];
  const sessionToken = env["AWS_SESSION_TOKEN"];
  if (!accessKeyId || !secretAccessKey) return null;
  return {
    accessKeyId,
    secretAccessKey: new HiddenText(secretAccessKey),
    sessionToken: sessionToken ? new HiddenText(sessionToken) : null,
  };
}

function issuerOf({ host, port }: ListenAddress, isTls: boolean): string {
  const bracketed = host.includes(":") ? `[${host}]` : host;
  return new URL(`${isTls ? "https" : "http"}://${bracketed}:${port}`).origin;
}

function previousKek(given: Resolved, around: Surroundings): KekSource | null {
  const kek = given.get("kekPrevious");
  return kek === undefined ? null : kekSource(kek, given.place("kekPrevious"), around);
}

/** @param place where the configuration says so */
function kekSource(
  kek: KekReference,
  place: ReturnType<Resolved["place"]>,
  { env, files, problems }: Surroundings,
): KekSource {
  if (kek.kind === "file") return { source: `file:${kek.path}`, value: null };
  if (kek.kind === "awskms") {
    const endpoint = env["AWS_ENDPOINT_URL_KMS"];
    return { source: `awskms:${kek.keyArn}`, value: null, ...(endpoint && { endpoint }) };
  }
  const variable = kek.kind === "env" ? kek.name : "VAULT_TOKEN";
  const twin = env[`${variable}_FILE`];
  const text = env[variable] || (twin && !isWorldReadable(twin, files) ? readSecretFile(twin, files) : undefined);
  if (text === undefined) {
    problems.push({
      ...place,
      problem: `${kek.kind === "env" ? "names" : "needs"} the variable ${variable}, which is not set`,
      mend: `Set ${variable}, or ${variable}_FILE to a file that only this user can read`,
    });
  }
  const value = new HiddenText(text ?? "");
  if (kek.kind === "env") return { source: `env:${kek.name}`, value };
  const namespace = env["VAULT_NAMESPACE"];
  return { source: `vault-transit:${kek.url}#${kek.key}`, value, ...(namespace && { namespace }) };
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
  const fileOf = (source = ""): string | undefined =>
    source.startsWith("file:") ? source.slice("file:".length) : undefined;
  if (config.kek.source === config.kekPrevious?.source) {
    refuse("kekPrevious", "is the same as kek", "Name the key before it here, or leave it out");
  }
  const keyFiles = [
    { name: "tlsKey", path: config.tls?.keyFile },
    { name: "kek", path: fileOf(config.kek.source) },
    { name: "kekPrevious", path: fileOf(config.kekPrevious?.source) },
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
