/** What stands where a value was taken out. */
export const REDACTED = "[redacted]";

/** Strings in strings that are read: JSON in JSON in JSON happens, more is somebody who hides. */
const MAX_STRINGS = 4;
/** Deeper than any message that the proxy takes; what is deeper is taken out whole. */
const MAX_DEPTH = 512;

/**
 * Whether a JSON value nests deeper than that. `JSON.parse` reads any depth; whatever walks it by calling itself, as
 * `JSON.stringify` does, ends somewhere.
 */
export function nestsDeeperThan(value: unknown, depth: number = MAX_DEPTH): boolean {
  let level = [value].filter(isNest);
  for (let at = 1; level.length > 0; at++) {
    if (at > depth) return true;
    level = level.flatMap((one) => Object.values(one).filter(isNest));
  }
  return false;
}

function isNest(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/** A path of a document: names, `*` for one step, `**` for any number of them, also none. */
export type RedactPath = readonly string[];

/** Where a path stands: its steps, and how many of them are done. */
interface Standing {
  readonly path: RedactPath;
  readonly at: number;
}

/**
 * The steps of a JSON Pointer (RFC 6901) with `*` and `**` in it. At least one step, and the last is not `**`.
 *
 * @returns undefined for what is none
 */
export function readRedactPath(text: string): RedactPath | undefined {
  if (!/^(?:\/(?:[^/~]|~[01])+)+$/.test(text)) return undefined;
  const steps = text
    .slice(1)
    .split("/")
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.at(-1) === "**" ? undefined : steps;
}

/**
 * A JSON value without what the paths name: each such value, whatever it is, becomes {@link REDACTED}. A string that begins as
 * JSON does is read as JSON, so that a member is found also where somebody sent an object as text; one that begins so, cannot
 * be read, or nests too deep, and has the name in it is taken out whole. Other text is not looked into.
 *
 * @returns the value, a copy where anything was taken out, and how many times that was
 */
export function redact(
  value: unknown,
  paths: readonly RedactPath[],
): { readonly value: unknown; readonly count: number } {
  let count = 0;

  const hidden = (): string => {
    count++;
    return REDACTED;
  };

  function walk(one: unknown, standings: readonly Standing[], at: { depth: number; strings: number }): unknown {
    if (standings.length === 0) return one;
    if (typeof one === "string") return inText(one, standings, at);
    if (typeof one !== "object" || one === null) return one;
    if (at.depth >= MAX_DEPTH) return hidden();
    const below = { ...at, depth: at.depth + 1 };
    const step = (name: string, child: unknown): unknown => {
      const next = after(standings, name);
      return next === "there" ? hidden() : walk(child, next, below);
    };
    if (Array.isArray(one)) return one.map((child, index) => step(String(index), child));
    return Object.fromEntries(Object.entries(one).map(([name, child]) => [name, step(name, child)]));
  }

  function inText(text: string, standings: readonly Standing[], at: { depth: number; strings: number }): string {
    if (!/^[\s\ufeff]*["[{]/.test(text)) return text;
    let inner: unknown;
    try {
      inner = at.strings < MAX_STRINGS ? (JSON.parse(text.replace(/^\ufeff/, "")) as unknown) : undefined;
    } catch {
      inner = undefined;
    }
    if (inner === undefined || nestsDeeperThan(inner, MAX_DEPTH - at.depth))
      return mayHold(text, standings) ? hidden() : text;
    const before = count;
    const made = walk(inner, standings, { depth: at.depth + 1, strings: at.strings + 1 });
    return count === before ? text : JSON.stringify(made);
  }

  const made = walk(
    value,
    paths.map((path) => ({ path, at: 0 })),
    { depth: 0, strings: 0 },
  );
  return { value: made, count };
}

/** Whether unreadable text could hold what is looked for: its name is there, or could be there in escapes. */
function mayHold(text: string, standings: readonly Standing[]): boolean {
  return standings.some(({ path }) => {
    const name = path.at(-1) as string;
    return name === "*" || text.includes(name) || text.includes("\\u");
  });
}

/** Where paths stand one step further; `there` where one of them ends. */
function after(standings: readonly Standing[], name: string): "there" | readonly Standing[] {
  const next: Standing[] = [];
  for (const { path, at } of standings) {
    // `**` may stand for nothing: what follows it is tried as well.
    for (let step = at; step < path.length; step++) {
      const wanted = path[step];
      if (wanted === "**") {
        next.push({ path, at: step });
        continue;
      }
      if (wanted === "*" || wanted === name) {
        if (step + 1 === path.length) return "there";
        next.push({ path, at: step + 1 });
      }
      break;
    }
  }
  return next.length > 1 ? distinct(next) : next;
}

/** Each once: `**` would else double them at every step. */
function distinct(standings: readonly Standing[]): readonly Standing[] {
  return standings.filter(
    (one, index) => standings.findIndex((other) => other.path === one.path && other.at === one.at) === index,
  );
}
