import { accessSync, constants, statSync } from "node:fs";
import { dirname, isAbsolute, join, normalize } from "node:path";

/** Where a program is looked for that is named without its path, and all that a program started by us sees as PATH. */
export const PROGRAM_PATH: readonly string[] = [
  ...new Set([dirname(process.execPath), "/usr/local/bin", "/usr/bin", "/bin"]),
];

/** Programs that may be started. */
export interface Programs {
  /** The absolute path of a program that may be started, or why not, continuing its name, and the mend. */
  find(name: string): { readonly path: string } | { readonly what: string; readonly mend: string };
}

/** @param allowed absolute paths (`stdio.allow`); none: nothing may be started */
export function createPrograms(allowed: readonly string[]): Programs {
  const known = new Set(allowed.map((path) => normalize(path)));
  return {
    find(name) {
      if (known.size === 0) {
        const mend =
          "name the program's absolute path in the server's setting stdio.allow, or give the URL of an HTTP server";
        return { what: "would start a program on the server, which its settings do not allow", mend };
      }
      if (name.includes("/") && !isAbsolute(name))
        return { what: "is a relative path", mend: "write the program's absolute path" };
      const path = isAbsolute(name) ? normalize(name) : located(name);
      if (path === undefined)
        return { what: `is in none of ${PROGRAM_PATH.join(", ")}`, mend: "write the program's absolute path" };
      if (known.has(path)) return { path };
      return { what: "is no program that the server's settings allow", mend: `add ${path} to its setting stdio.allow` };
    },
  };
}

function located(name: string): string | undefined {
  return PROGRAM_PATH.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
