import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import type { Node, YAMLMap } from "yaml";
import type { ConfigProblem } from "./error.ts";

/** A setting as the file has it: text, or the entries of a list joined by commas. */
export interface FileEntry {
  readonly text: string;
  /** 1-based. */
  readonly line: number;
}

/** The largest configuration file that is read, in bytes. Ours have a few hundred. */
const MAX_FILE_BYTES = 64 * 1024;

/**
 * Reads the configuration file strictly: one YAML document, no duplicate keys, no aliases, no tags, at most two levels.
 *
 * @param name how the file is called in messages
 * @param problems takes what is wrong; messages never quote values
 * @returns `tasks.max` → its text and line
 */
export function readConfigFile(
  text: string,
  { name, problems }: { name: string; problems: ConfigProblem[] },
): Map<string, FileEntry> {
  const entries = new Map<string, FileEntry>();
  if (Buffer.byteLength(text) > MAX_FILE_BYTES) {
    problems.push({
      file: name,
      key: "(file)",
      problem: "is larger than 64 KiB",
      mend: "Keep trust objects in the trust file",
    });
    return entries;
  }
  const lines = new LineCounter();
  // prettyErrors would quote the source, and with it passwords.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, version: "1.2" });
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  for (const { code, pos } of [...document.errors, ...document.warnings]) {
    const isDuplicate = code === "DUPLICATE_KEY";
    problems.push({
      file: name,
      line: lineAt(pos[0]),
      key: (isDuplicate && /^[a-z_]{1,64}/.exec(text.slice(pos[0]))?.[0]) || "(syntax)",
      problem: isDuplicate ? "stands here twice" : `is not the YAML we read (${code})`,
      mend: isDuplicate ? "Keep one of them" : "Write plain keys and values, without tags",
    });
  }
  if (problems.length > 0 || document.contents === null) return entries;
  if (!isMap(document.contents)) {
    problems.push({
      file: name,
      line: 1,
      key: "(file)",
      problem: "holds no settings",
      mend: "Write keys and values, like listen: 127.0.0.1:8460",
    });
    return entries;
  }
  collect(document.contents, { prefix: "", entries, lineAt, name, problems });
  return entries;
}

interface Collecting {
  readonly prefix: string;
  readonly entries: Map<string, FileEntry>;
  readonly lineAt: (offset: number) => number;
  readonly name: string;
  readonly problems: ConfigProblem[];
}

function collect(map: YAMLMap, into: Collecting): void {
  for (const { key: keyNode, value } of map.items) {
    const line = into.lineAt((keyNode as Node).range?.[0] ?? 0);
    const key = into.prefix + (isScalar(keyNode) ? String(keyNode.value) : "");
    if (isMap(value) && into.prefix === "") {
      collect(value, { ...into, prefix: `${key}.` });
      continue;
    }
    const text = scalarText(value) ?? listText(value);
    if (text === undefined || isAlias(keyNode)) {
      into.problems.push({
        file: into.name,
        line,
        key: key.slice(0, 64),
        problem: "has no usable value",
        mend: "Write one value",
      });
    } else {
      into.entries.set(key, { text, line });
    }
  }
}

function scalarText(value: unknown): string | undefined {
  if (!isScalar(value) || value.value === null) return undefined;
  // The source, not the number: 1e3 and 0x10 are no port.
  return typeof value.value === "string" ? value.value : (value.source ?? String(value.value));
}

function listText(value: unknown): string | undefined {
  if (!isSeq(value)) return undefined;
  const texts = value.items.map(scalarText);
  return texts.every((text) => text !== undefined && !text.includes(",")) ? texts.join(",") : undefined;
}
