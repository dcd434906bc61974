import { dirname } from "node:path";
import { BadValue, ConfigError } from "./error.ts";
import type { ConfigProblem } from "./error.ts";
import { readConfigFile } from "./file.ts";
import type { FileEntry } from "./file.ts";
import { isForeignVariable, nearest, SETTINGS } from "./settings.ts";
import type { Setting, SettingName, SettingValue } from "./settings.ts";

/** Environment variables, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The two things that the configuration asks of a disk. */
export interface ConfigFiles {
  /** @throws when it cannot be read */
  read(path: string): string;
  /** Permission bits, or undefined where there is no such file or the platform has none. */
  mode(path: string): number | undefined;
}

/** What was said on the command line, by setting; it beats variables, which beat the file. */
export type ConfigFlags = { readonly [N in SettingName]?: string };

/** Settings that were given, parsed, with the place where each was found. */
export interface Resolved {
  get<N extends SettingName>(name: N): SettingValue<N> | undefined;
  /** Whether it was given at all, even wrongly. */
  has(name: SettingName): boolean;
  /** File, line and key of a setting, for a problem with it; the key alone when it was not given. */
  place(name: SettingName): Pick<ConfigProblem, "file" | "line" | "key">;
}

interface Found {
  readonly text: string;
  readonly base: string;
  readonly place: Pick<ConfigProblem, "file" | "line" | "key">;
}

/** Any user of the machine can read it. */
const WORLD_READABLE = 0o004;
/** Longest secret file that is read, in characters. */
const MAX_SECRET_CHARACTERS = 16_384;
const MAX_KEY_CHARACTERS = 64;

/** Where everything comes from. */
export interface Sources {
  readonly flags: ConfigFlags;
  readonly env: Environment;
  readonly files: ConfigFiles;
  /** Absolute path of the configuration file, where there is one. */
  readonly file: string | undefined;
  /** Where relative paths of flags and variables start. */
  readonly workingDirectory: string;
}

/**
 * Gathers every setting from command line, environment and file, in this order of precedence, and parses it.
 *
 * @param problems takes what is wrong; all of it, so that one start shows all mistakes
 */
export function resolveSettings(sources: Sources, problems: ConfigProblem[]): Resolved {
  const entries = readEntries(sources, problems);
  refuseUnknown(sources, entries, problems);
  const values = new Map<SettingName, unknown>();
  const places = new Map<SettingName, Found["place"]>();
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const found = find(name, sources, { entries, problems });
    if (found === undefined) continue;
    places.set(name, found.place);
    try {
      values.set(name, (SETTINGS[name] as Setting<unknown>).parse(found.text, found.base));
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      problems.push({ ...found.place, problem: error.problem, mend: error.mend });
    }
  }
  return {
    get: <N extends SettingName>(name: N) => values.get(name) as SettingValue<N> | undefined,
    has: (name) => places.has(name),
    place: (name) => places.get(name) ?? { key: SETTINGS[name].key },
  };
}

function readEntries({ file, files }: Sources, problems: ConfigProblem[]): Map<string, FileEntry> {
  if (file === undefined) return new Map();
  let text: string;
  try {
    text = files.read(file);
  } catch {
    throw new ConfigError([
      { file, key: "--config", problem: "cannot be read", mend: "Name a file that exists and that this user may read" },
    ]);
  }
  const entries = readConfigFile(text, { name: file, problems });
  for (const setting of Object.values(SETTINGS)) {
    const entry = "isSecret" in setting ? entries.get(setting.key) : undefined;
    if (entry && isWorldReadable(file, files)) {
      problems.push({
        file,
        line: entry.line,
        key: setting.key,
        problem: "is a secret in a file that every user of this machine can read",
        mend: `Run chmod o-r on the file, or use ${setting.key}_file or ${setting.variable}_FILE`,
      });
    }
  }
  return entries;
}

function refuseUnknown({ env, file }: Sources, entries: Map<string, FileEntry>, problems: ConfigProblem[]): void {
  const keys = new Set<string>();
  const variables = new Set<string>();
  for (const setting of Object.values(SETTINGS)) {
    keys.add(setting.key);
    variables.add(setting.variable);
    if ("isSecret" in setting) {
      keys.add(`${setting.key}_file`);
      variables.add(`${setting.variable}_FILE`);
    }
  }
  const unknown = (name: string, known: Set<string>): Pick<ConfigProblem, "key" | "problem" | "mend"> => {
    const key = name.slice(0, MAX_KEY_CHARACTERS);
    const near = nearest(key, known);
    return {
      key,
      problem: "is no setting",
      mend: near ? `Did you mean ${near}` : "Leave it out, or look it up in the documentation",
    };
  };
  for (const [key, { line }] of entries) {
    if (!keys.has(key)) problems.push({ ...(file !== undefined && { file }), line, ...unknown(key, keys) });
  }
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith("EPHOR_")) continue;
    if (!variables.has(name) && !isForeignVariable(name)) problems.push(unknown(name, variables));
  }
}

function find(
  name: SettingName,
  sources: Sources,
  { entries, problems }: { entries: Map<string, FileEntry>; problems: ConfigProblem[] },
): Found | undefined {
  const { flags, env, file, workingDirectory } = sources;
  const setting: Setting<unknown> = SETTINGS[name];
  const flag = flags[name];
  if (flag !== undefined) {
    return { text: flag, base: workingDirectory, place: { key: `--${setting.key.replaceAll(/[._]/g, "-")}` } };
  }
  const { variable } = setting;
  // A variable that is there but empty is a template that was not filled in; it counts as absent, as everywhere.
  const said = env[variable] || undefined;
  const twin = (setting.isSecret && env[`${variable}_FILE`]) || undefined;
  if (said !== undefined && twin !== undefined) {
    problems.push({ key: variable, problem: `stands beside ${variable}_FILE`, mend: "Keep one of them" });
  }
  if (said !== undefined) return { text: said, base: workingDirectory, place: { key: variable } };
  if (twin !== undefined) {
    return fromSecretFile(resolvePath(twin, workingDirectory), { key: `${variable}_FILE` }, { sources, problems });
  }
  if (file === undefined) return undefined;
  const base = dirname(file);
  const entry = entries.get(setting.key);
  if (entry) return { text: entry.text, base, place: { file, line: entry.line, key: setting.key } };
  const other = setting.isSecret && entries.get(`${setting.key}_file`);
  if (!other) return undefined;
  const place = { file, line: other.line, key: `${setting.key}_file` };
  return fromSecretFile(resolvePath(other.text, base), place, { sources, problems });
}

function resolvePath(text: string, base: string): string {
  return SETTINGS.data.parse(text, base);
}

function fromSecretFile(
  path: string,
  place: Found["place"],
  { sources: { files }, problems }: { sources: Sources; problems: ConfigProblem[] },
): Found | undefined {
  if (isWorldReadable(path, files)) {
    problems.push({
      ...place,
      problem: "names a file that every user of this machine can read",
      mend: "Run chmod o-r on it",
    });
    return undefined;
  }
  const text = readSecretFile(path, files);
  if (text === undefined) {
    problems.push({
      ...place,
      problem: "names a file that cannot be read, is empty or too long",
      mend: "Check the path and its owner",
    });
    return undefined;
  }
  return { text, base: dirname(path), place };
}

/** @returns the file's text without the line end that editors add, or undefined when it is unreadable, empty or too long */
export function readSecretFile(path: string, files: ConfigFiles): string | undefined {
  try {
    const text = files.read(path).replace(/\r?\n$/, "");
    return text === "" || text.length > MAX_SECRET_CHARACTERS ? undefined : text;
  } catch {
    return undefined;
  }
}

/** Whether a file is there and everybody may read it (INV-30, A-SEC-05). */
export function isWorldReadable(path: string, files: ConfigFiles): boolean {
  return ((files.mode(path) ?? 0) & WORLD_READABLE) !== 0;
}
