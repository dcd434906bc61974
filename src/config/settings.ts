import { MAX_LIFETIME_SECONDS, MIN_LIFETIME_SECONDS } from "../core/token/lifetime.ts";
import {
  parseAnchor,
  parseBoolean,
  parseDatabaseUrl,
  parseDuration,
  parseDurationOrOff,
  parseIssuer,
  parseKek,
  parseListen,
  parseOneOf,
  parseOperatorKey,
  parsePath,
  parsePrograms,
  parseProxies,
  parseText,
  parseWhole,
} from "./values.ts";

/** Signature algorithms our own token keys may have; ES256 is what every verifier knows (ecosystem, fact 9). */
export const SIGNING_ALGORITHMS = ["ES256", "EdDSA", "RS256"] as const;

/** A signature algorithm of our own token keys. */
export type SigningAlgorithm = (typeof SIGNING_ALGORITHMS)[number];

const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
const MINUTE = 60;
const HOUR = 3_600;
const DAY = 86_400;

/** One setting: its name in the file, its variable, and how its text becomes a value. */
export interface Setting<T> {
  /** As the file spells it; members of a group with a dot. */
  readonly key: string;
  readonly variable: string;
  /** Has a `_file` and `_FILE` twin, and makes a world-readable configuration file unacceptable. */
  readonly isSecret?: true;
  /** @param base the folder where relative paths start */
  readonly parse: (text: string, base: string) => T;
}

const setting = <T>(
  key: string,
  parse: (text: string, base: string) => T,
  more?: { variable?: string; isSecret?: true },
): Setting<T> => ({
  key,
  parse,
  variable: more?.variable ?? `EPHOR_${key.replaceAll(".", "_").toUpperCase()}`,
  ...(more?.isSecret && { isSecret: true }),
});

/** Every setting there is. A key or an `EPHOR_` variable that is not here stops the start. */
export const SETTINGS = {
  issuer: setting("issuer", parseIssuer),
  listen: setting("listen", parseListen),
  tlsCert: setting("tls.cert", parsePath),
  tlsKey: setting("tls.key", parsePath),
  trustedProxies: setting("trusted_proxies", parseProxies),
  data: setting("data", parsePath),
  database: setting("database", parseDatabaseUrl, { variable: "DATABASE_URL", isSecret: true }),
  databaseAdmin: setting("database_admin", parseDatabaseUrl, { isSecret: true }),
  kek: setting("kek", parseKek),
  kekPrevious: setting("kek_previous", parseKek),
  anchor: setting("anchor", parseAnchor),
  trust: setting("trust", parsePath),
  applyOnStart: setting("apply_on_start", parseBoolean),
  acceptDatabase: setting("accept_database", parseBoolean),
  tasksDefault: setting(
    "tasks.default",
    parseDuration({ minSeconds: MINUTE, maxSeconds: 30 * DAY, hint: "Write 1m to 30d" }),
  ),
  tasksMax: setting("tasks.max", parseDuration({ minSeconds: MINUTE, maxSeconds: 30 * DAY, hint: "Write 1m to 30d" })),
  tokensTtl: setting(
    "tokens.ttl",
    parseDuration({
      minSeconds: MIN_LIFETIME_SECONDS,
      maxSeconds: MAX_LIFETIME_SECONDS,
      hint: "Write 1s to 59s: no token lives a minute, whatever is configured",
    }),
  ),
  metrics: setting("metrics", parseListen),
  canary: setting("canary", parseDurationOrOff({ minSeconds: 1, maxSeconds: HOUR, hint: "Write 1s to 1h, or off" })),
  stdioAllow: setting("stdio.allow", parsePrograms),
  trustDomain: setting("trust_domain", parseText),
  keysAlgorithm: setting("keys.algorithm", parseOneOf(SIGNING_ALGORITHMS)),
  keysRotateEvery: setting(
    "keys.rotate_every",
    parseDuration({ minSeconds: HOUR, maxSeconds: 366 * DAY, hint: "Write 1h to 366d" }),
  ),
  logLevel: setting("log_level", parseOneOf(LOG_LEVELS)),
  workers: setting("workers", parseWhole({ min: 1, max: 64 })),
  operatorKey: setting("operator_key", parseOperatorKey, { isSecret: true }),
} as const;

/** The name of a setting in the code. */
export type SettingName = keyof typeof SETTINGS;

/** What a setting's text becomes. */
export type SettingValue<N extends SettingName> = ReturnType<(typeof SETTINGS)[N]["parse"]>;

/** Variables with our prefix that are no settings of the server: the command line reads them, or `--config` does. */
const OTHER_VARIABLES = new Set(["EPHOR_CONFIG", "EPHOR_URL", "EPHOR_TOKEN", "EPHOR_TOKEN_FILE", "EPHOR_PROFILE"]);

/**
 * What Kubernetes puts into every pod of a namespace that has a service called `ephor`; and what tests use. Refusing
 * those would make the most natural name of the service unusable.
 */
const FOREIGN_VARIABLE = /^EPHOR_(?:SERVICE_(?:HOST|PORT)(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?|TEST_\w+)$/;

/** Whether an `EPHOR_` variable may be there although it is no setting. */
export function isForeignVariable(name: string): boolean {
  return OTHER_VARIABLES.has(name) || FOREIGN_VARIABLE.test(name);
}

/** The known name nearest to a mistyped one, if one is near. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  let best: { name: string; distance: number } = { name: "", distance: 3 };
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (distance < best.distance) best = { name: candidate, distance };
  }
  return best.name === "" ? undefined : best.name;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? a.length;
}
