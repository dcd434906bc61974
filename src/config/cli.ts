import { readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { BadValue, ConfigError } from "./error.ts";
import { HiddenText } from "./hidden.ts";
import { isWorldReadable, readSecretFile } from "./resolve.ts";
import type { ConfigFiles, Environment } from "./resolve.ts";
import { isLoopbackHost, parseOperatorKey } from "./values.ts";

/** What the commands that talk to a server take from their surroundings (CONTRACT §9). */
export interface CliSettings {
  /** `EPHOR_URL`, without trailing slash. */
  readonly url: string;
  /** Whether only this machine can be meant. */
  readonly isLocal: boolean;
  /** `EPHOR_DATA`, where the operator key and the keys of agents of this machine lie; absolute. */
  readonly dataDirectory: string;
  /** Everything else a platform may have put there, for finding a workload's token. */
  readonly env: Environment;
  /**
   * `EPHOR_OPERATOR_KEY`, its `_FILE`, then `operator-key` in the data folder; looked for only when it is needed.
   *
   * @throws {NoOperatorKeyError} when none of the three is there, or a file is readable by everybody
   */
  operatorKey(): HiddenText;
}

/** There is no operator key here, or none that may be used. */
export class NoOperatorKeyError extends ConfigError {}

/** What `readCliSettings` reads; in tests all of it is handed in. */
export interface CliInput {
  readonly env?: Environment;
  readonly files?: ConfigFiles;
  readonly workingDirectory?: string;
}

const DEFAULT_URL = "http://127.0.0.1:8460";

/**
 * Reads what the command line needs of the environment.
 *
 * @throws {ConfigError} when `EPHOR_URL` is not one that a key may be sent to
 */
export function readCliSettings(input: CliInput = {}): CliSettings {
  const env = input.env ?? process.env;
  const files = input.files ?? diskFiles;
  const workingDirectory = input.workingDirectory ?? process.cwd();
  const dataDirectory = resolve(workingDirectory, env["EPHOR_DATA"] || "ephor-data");
  const url = serverUrl(env["EPHOR_URL"] || DEFAULT_URL);
  return {
    url,
    isLocal: isLoopbackHost(new URL(url).hostname),
    dataDirectory,
    env,
    operatorKey: () => findOperatorKey(env, { files, workingDirectory, dataDirectory }),
  };
}

function serverUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw refuse("EPHOR_URL", "is not an http or https URL", `Write it like ${DEFAULT_URL}`);
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw refuse("EPHOR_URL", "has user info, a query or a fragment", "Give scheme, host, port and path only");
  }
  if (url.protocol === "http:" && !isLoopbackHost(url.hostname)) {
    throw refuse("EPHOR_URL", "is an http URL of another machine, so keys would travel in the clear", "Use https");
  }
  return (url.origin + url.pathname).replace(/\/+$/, "");
}

function findOperatorKey(
  env: Environment,
  { files, workingDirectory, dataDirectory }: { files: ConfigFiles; workingDirectory: string; dataDirectory: string },
): HiddenText {
  const said = env["EPHOR_OPERATOR_KEY"] || undefined;
  if (said !== undefined) return checked(said, "EPHOR_OPERATOR_KEY");
  const named = env["EPHOR_OPERATOR_KEY_FILE"] || undefined;
  const path = named === undefined ? join(dataDirectory, "operator-key") : resolve(workingDirectory, named);
  const key = named === undefined ? path : "EPHOR_OPERATOR_KEY_FILE";
  if (isWorldReadable(path, files))
    throw noKey(key, "is a key file that every user of this machine can read", "Run chmod 600 on it");
  const text = readSecretFile(path, files);
  if (text !== undefined) return checked(text, key);
  throw noKey(
    named === undefined ? "EPHOR_OPERATOR_KEY" : key,
    named === undefined
      ? `is not set, and ${path} cannot be read`
      : "names a file that cannot be read, is empty or too long",
    "Run this where `ephor serve` runs, as the same user, or set EPHOR_OPERATOR_KEY_FILE to the operator key's file",
  );
}

function checked(text: string, key: string): HiddenText {
  try {
    return new HiddenText(parseOperatorKey(text));
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    throw noKey(key, error.problem, error.mend);
  }
}

function noKey(key: string, problem: string, mend: string): NoOperatorKeyError {
  return new NoOperatorKeyError([{ key, problem, mend }]);
}

function refuse(key: string, problem: string, mend: string): ConfigError {
  return new ConfigError([{ key, problem, mend }]);
}

const diskFiles: ConfigFiles = {
  read: (path) => readFileSync(path, "utf8"),
  mode: (path) => (process.platform === "win32" ? undefined : statSync(path, { throwIfNoEntry: false })?.mode),
};
