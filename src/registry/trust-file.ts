import { LineCounter, isAlias, isMap, isScalar, isSeq, parseDocument } from "yaml";
import type { Document, Node } from "yaml";
import type { Path, TrustProblem } from "../core/trust/problem.ts";
import { readTrustFile } from "../core/trust/schema.ts";
import type { TrustEntry } from "../core/trust/schema.ts";

/** Limits of a trust file, each with its reason. */
export const TRUST_FILE_LIMITS = {
  /** Characters: some ten thousand agents; more belong into several files. */
  characters: 8_000_000,
  /** How often aliases may be expanded: a file says a list of claims twice, not a million times. */
  aliases: 1000,
  /** Problems that are reported; a file with more has one cause. */
  problems: 100,
} as const;

/** A problem with its place in a file, where it came from one. */
export interface FileProblem {
  readonly file?: string;
  /** From 1. */
  readonly line?: number;
  readonly column?: number;
  /** `agents.release-bot.trust[0].claims`; empty for the file itself. */
  readonly key: string;
  readonly what: string;
  readonly mend: string;
}

/** A trust file that was read: its objects, and where each thing stands. */
export type TrustFile =
  | { readonly ok: true; readonly entries: readonly TrustEntry[]; place(problem: TrustProblem): FileProblem }
  | { readonly ok: false; readonly problems: readonly FileProblem[] };

/**
 * Reads the text of a trust file: YAML 1.2 (and so JSON), one document, no key twice, no tags, aliases bounded. Whether what
 * it names exists is checked when it is planned.
 *
 * @param file the name to give in problems
 * @param issuerUrl our own issuer
 */
export function parseTrustFile(text: string, file: string, issuerUrl: string): TrustFile {
  const refuse = (problem: Omit<FileProblem, "file">): TrustFile => ({ ok: false, problems: [{ file, ...problem }] });
  if (text.length > TRUST_FILE_LIMITS.characters) {
    return refuse({
      key: "",
      what: "the file is too large",
      mend: "split it into several files, each applied under its own source",
    });
  }
  const lines = new LineCounter();
  // `prettyErrors` would quote the text into messages.
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, stringKeys: true, prettyErrors: false });
  const faults = [...document.errors, ...document.warnings].slice(0, TRUST_FILE_LIMITS.problems);
  if (faults.length > 0) {
    return {
      ok: false,
      problems: faults.map((fault) => ({ file, ...at(lines, fault.pos[0]), key: "", ...yamlFault(fault.code) })),
    };
  }
  let raw: unknown;
  try {
    raw = document.toJS({ maxAliasCount: TRUST_FILE_LIMITS.aliases });
  } catch {
    return refuse({
      key: "",
      what: "its aliases cannot be expanded, or not within bounds",
      mend: "write repeated parts out",
    });
  }
  const place = (problem: TrustProblem): FileProblem => ({
    file,
    ...at(lines, offsetOf(document, problem.path)),
    key: formatPath(problem.path),
    what: problem.what,
    mend: problem.mend,
  });
  const reading = readTrustFile(raw, issuerUrl);
  if (!reading.ok) return { ok: false, problems: reading.problems.slice(0, TRUST_FILE_LIMITS.problems).map(place) };
  return { ok: true, entries: reading.value, place };
}

/** A problem as one line: `file:line:column key: what – mend`. */
export function formatProblem(problem: FileProblem): string {
  const position = [problem.file, problem.line, problem.column].filter((part) => part !== undefined).join(":");
  const subject = [position, problem.key].filter((part) => part !== "").join(" ");
  return `${subject === "" ? "" : `${subject}: `}${problem.what} – ${problem.mend}`;
}

/** A path as people write it: `agents.release-bot.trust[0]`. */
export function formatPath(path: Path): string {
  return path
    .map((step, index) =>
      typeof step === "number"
        ? `[${step}]`
        : /^[\w-]+$/.test(step)
          ? `${index === 0 ? "" : "."}${step}`
          : `["${step}"]`,
    )
    .join("");
}

function yamlFault(code: string): { what: string; mend: string } {
  switch (code) {
    case "DUPLICATE_KEY":
      return { what: "a key stands here a second time", mend: "keep one of the two" };
    case "NON_STRING_KEY":
      return { what: "a key must be text", mend: "write it in quotes" };
    case "MULTIPLE_DOCS":
      return { what: "a second document begins here", mend: "write one document a file" };
    case "TAG_RESOLVE_FAILED":
      return { what: "a tag stands here", mend: "take the tag (!…) out" };
    case "TAB_AS_INDENT":
      return { what: "a tab is used for indentation", mend: "indent with blanks" };
    case "BAD_INDENT":
      return { what: "the indentation does not fit", mend: "indent it as its neighbours" };
    case "BAD_ALIAS":
      return { what: "an alias has no anchor before it", mend: "write the part out, or anchor it above" };
    default:
      return { what: "the YAML cannot be read here", mend: "look for a missing quote, colon, dash or bracket" };
  }
}

function at(lines: LineCounter, offset: number | undefined): { line?: number; column?: number } {
  if (offset === undefined) return {};
  const { line, col } = lines.linePos(offset);
  return { line, column: col };
}

/** Where a path stands: its last key, or the nearest thing above that is there. */
function offsetOf(document: Document.Parsed, path: Path): number | undefined {
  let node: unknown = document.contents;
  let offset = document.contents?.range?.[0];
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document);
    const member: [unknown, Node | null] | undefined = isMap(node)
      ? memberOf(node.items, step)
      : isSeq(node)
        ? elementOf(node.items, step)
        : undefined;
    if (member === undefined) break;
    const [next, marker] = member;
    offset = marker?.range?.[0] ?? offset;
    node = next;
  }
  return offset;
}

function memberOf(
  items: readonly { key: unknown; value: unknown }[],
  step: string | number,
): [unknown, Node | null] | undefined {
  const pair = items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
  return pair === undefined ? undefined : [pair.value, pair.key as Node];
}

function elementOf(items: readonly unknown[], step: string | number): [unknown, Node | null] | undefined {
  const element = typeof step === "number" ? items[step] : undefined;
  return element === undefined ? undefined : [element, element as Node];
}
