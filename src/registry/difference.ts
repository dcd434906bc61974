/** One member that differs, as JSON texts; absent where it is not there. */
export interface Difference {
  /** Path inside the object, dotted; empty for the object itself. */
  readonly path: string;
  readonly before?: string;
  readonly after?: string;
}

/** Most members listed of one object, for people to read. */
const MAX_DIFFERENCES = 200;

/** What differs between two JSON values, member by member; lists differ as a whole. */
export function differences(before: unknown, after: unknown): readonly Difference[] {
  const found: Difference[] = [];
  const walk = (a: unknown, b: unknown, path: string): void => {
    if (found.length >= MAX_DIFFERENCES) return;
    if (isMapping(a) && isMapping(b)) {
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
        walk(own(a, key), own(b, key), path === "" ? key : `${path}.${key}`);
      }
      return;
    }
    const textA = a === undefined ? undefined : canonicalJson(a);
    const textB = b === undefined ? undefined : canonicalJson(b);
    if (textA === textB) return;
    found.push({ path, ...(textA !== undefined && { before: textA }), ...(textB !== undefined && { after: textB }) });
  };
  walk(before, after, "");
  return found;
}

/** JSON with the members of every mapping in one order, so that equal values have equal texts. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    isMapping(member) ? Object.fromEntries(Object.entries(member).toSorted(([a], [b]) => (a < b ? -1 : 1))) : member,
  );
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function own(value: Readonly<Record<string, unknown>>, key: string): unknown {
  return Object.hasOwn(value, key) ? value[key] : undefined;
}
