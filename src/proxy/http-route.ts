import { segmentsOf } from "./canonical-path.ts";

/** Routes of an HTTP resource, compiled: from a method and a path to the actions that they stand for. */
export interface HttpRoutes {
  /**
   * Every action with a route that fits, in the order of the trust file.
   *
   * @param segments decoded, of {@link segmentsOf}
   */
  actionsOf(method: string, segments: readonly string[]): readonly string[];
  /** Whether any route has this method. */
  hasMethod(method: string): boolean;
}

interface Compiled {
  readonly action: string;
  readonly method: string;
  /** Undefined stands for any one segment. */
  readonly segments: readonly (string | undefined)[];
  /** Ends in `/**`: whatever comes after, also nothing. */
  readonly isOpen: boolean;
}

/**
 * Compiles `METHOD /path` patterns: `*` is one whole segment that is not empty, `**` at the end whatever follows, nothing
 * included. `GET` stands for `HEAD` too (RFC 9110 §9.3.2). Segments compare decoded, character by character.
 *
 * @param routes patterns by action, as `apply` accepted them
 */
export function compileRoutes(routes: Readonly<Record<string, readonly string[]>>): HttpRoutes {
  const compiled: Compiled[] = [];
  for (const [action, patterns] of Object.entries(routes))
    for (const pattern of patterns) compiled.push(compile(action, pattern));
  return {
    actionsOf(method, segments) {
      const asked = method === "HEAD" ? "GET" : method;
      const actions = new Set<string>();
      for (const route of compiled) {
        const isMethod = route.method === method || route.method === asked;
        if (isMethod && fits(route, segments)) actions.add(route.action);
      }
      return [...actions];
    },
    hasMethod: (method) =>
      compiled.some((route) => route.method === method || (method === "HEAD" && route.method === "GET")),
  };
}

function compile(action: string, pattern: string): Compiled {
  const blank = pattern.indexOf(" ");
  const path = pattern.slice(blank + 1);
  const isOpen = path.endsWith("/**");
  const closed = isOpen ? path.slice(0, -"/**".length) : path;
  const parts = closed === "" ? [] : closed.slice(1).split("/");
  return {
    action,
    method: pattern.slice(0, blank),
    // One that is not canonical can never be asked for; it fits nothing.
    segments: parts.map((part) => (part === "*" ? undefined : (segmentsOf(`/${part}`)?.[0] ?? "\0"))),
    isOpen,
  };
}

function fits(route: Compiled, segments: readonly string[]): boolean {
  const { segments: wanted, isOpen } = route;
  if (isOpen ? segments.length < wanted.length : segments.length !== wanted.length) return false;
  return wanted.every((one, at) => (one === undefined ? segments[at] !== "" : one === segments[at]));
}
