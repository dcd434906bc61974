import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** The table of imports, as ARCHITECTURE has it: a room imports only rooms of a lower floor. */
const FLOORS = [
  ["core"],
  ["api", "system", "sdk"],
  ["db"],
  ["audit", "vault", "federation", "registry"],
  ["authz", "keys"],
  ["tasks", "revocation", "approvals", "operators"],
  ["sts", "broker", "channels"],
  ["proxy"],
  ["http"],
] as const;

/** Rooms that see less than their floor would let them. */
const ONLY: Readonly<Record<string, readonly string[]>> = {
  sdk: ["core"],
  console: ["core", "api", "sdk"],
  // `config/cli` reads the environment for the command line.
  cli: ["core", "api", "sdk", "config"],
  // The composition root and the configuration know each other; no room knows either.
  config: ["core", "system"],
};

/** Never, whatever the floors say. */
const NEVER: Readonly<Record<string, readonly string[]>> = { http: ["db"] };

/** Files that put the house together; they may import every room. `cli` holds some, because `ephor serve` starts it. */
const COMPOSITION = /^(server\.ts|server\/.*|cli\/(serve|demo|doctor|migrate)(\/.*|[^/]*\.ts))$/;

/** Packages that `core` may import. */
const CORE_PACKAGES = ["zod", "@marcbachmann/cel-js"];

/** Words that name no thing: a folder or file called so would collect what belongs elsewhere. */
const EMPTY_WORDS = /^(utils?|helpers?|common|misc|shared|lib|managers?|impl)$/;

/** Longest file, in lines; 300 asks a question in review. */
const MAX_LINES = 400;

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const source = join(root, "src");

interface Import {
  readonly from: string;
  readonly specifier: string;
  /** path under src, or undefined for a package */
  readonly target: string | undefined;
}

const files = readdirSync(source, { recursive: true, encoding: "utf8" })
  .filter((name) => /\.tsx?$/.test(name))
  .map((name) => name.split(sep).join("/"))
  .sort();
const texts = new Map(files.map((name) => [name, readFileSync(join(source, name), "utf8")]));
const imports = files.flatMap((from) => importsOf(from));

function importsOf(from: string): Import[] {
  const text = texts.get(from) ?? "";
  const pattern =
    /(?:^|\n)\s*(?:import|export)\s[^"';]*?from\s*"([^"]+)"|(?:^|\n)\s*import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"/g;
  return [...text.matchAll(pattern)].map((match) => {
    const specifier = match[1] ?? match[2] ?? match[3] ?? "";
    const target = specifier.startsWith(".")
      ? relative(source, resolve(source, dirname(from), specifier))
          .split(sep)
          .join("/")
      : undefined;
    return { from, specifier, target };
  });
}

/** `sts` of `sts/token-endpoint.ts`; the name without its ending for a file directly under src. */
function roomOf(path: string): string {
  return path.includes("/") ? (path.split("/")[0] ?? "") : basename(path).replace(/\.tsx?$/, "");
}

function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => (rooms as readonly string[]).includes(room));
}

function mayImport(from: string, target: string): boolean {
  const [room, other] = [roomOf(from), roomOf(target)];
  if (room === other || COMPOSITION.test(from)) return true;
  if (NEVER[room]?.includes(other)) return false;
  const only = ONLY[room];
  if (only) return only.includes(other);
  const [floor, below] = [floorOf(room), floorOf(other)];
  return below >= 0 && floor > below;
}

/** The text without comments, so that a rule about code does not find a word about it. */
function codeOf(name: string): string {
  return (texts.get(name) ?? "").replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");
}

/** Files whose code matches, without those that may. */
function offenders(pattern: RegExp, allowed: RegExp): string[] {
  return files.filter((name) => !allowed.test(name) && pattern.test(codeOf(name)));
}

test("the reader of imports sees static, type-only, re-exported and dynamic ones", () => {
  assert.ok(files.length > 50);
  const specifiers = imports.map(({ specifier }) => specifier);
  assert.ok(specifiers.includes("zod") && specifiers.some((name) => name.startsWith("node:")));
  assert.ok(imports.some(({ from, target }) => from.startsWith("authz/") && target === "core/permit.ts"));
  assert.deepEqual(
    imports.filter(({ target }) => target !== undefined && !existsSync(join(source, target))),
    [],
  );
});

test("every room stands on a floor", () => {
  const rooms = new Set(files.map(roomOf));
  const known = new Set<string>([...FLOORS.flat(), ...Object.keys(ONLY), "server"]);
  assert.deepEqual(
    [...rooms].filter((room) => !known.has(room)),
    [],
  );
});

test("imports run downhill", () => {
  const uphill = imports.filter(({ from, target }) => target !== undefined && !mayImport(from, target));
  assert.deepEqual(
    uphill.map(({ from, target }) => `${from} imports ${target}`),
    [],
  );
});

test("the table itself refuses what it must", () => {
  assert.equal(mayImport("sts/x.ts", "authz/x.ts"), true);
  assert.equal(mayImport("authz/x.ts", "sts/x.ts"), false);
  assert.equal(mayImport("sts/x.ts", "broker/x.ts"), false);
  assert.equal(mayImport("broker/x.ts", "sts/x.ts"), false);
  assert.equal(mayImport("http/x.ts", "sts/x.ts"), true);
  assert.equal(mayImport("http/x.ts", "db/database.ts"), false);
  assert.equal(mayImport("cli/x.ts", "sts/x.ts"), false);
  assert.equal(mayImport("cli/serve.ts", "server.ts"), true);
  assert.equal(mayImport("sts/x.ts", "config.ts"), false);
  assert.equal(mayImport("sdk/x.ts", "system/x.ts"), false);
  assert.equal(mayImport("core/x.ts", "system/x.ts"), false);
});

test("what two rooms tell each other is written once: no room repeats another's interface", () => {
  const rooms = new Map<string, Set<string>>();
  // The sdk is a package of its own, whose types are its users' to read.
  for (const name of files.filter((one) => roomOf(one) !== "sdk"))
    for (const [text] of codeOf(name).matchAll(/^export interface \w+[^{]*\{[\s\S]*?^\}/gm)) {
      const key = text.replace(/\s+/g, " ");
      rooms.set(key, (rooms.get(key) ?? new Set()).add(roomOf(name)));
    }
  assert.ok(rooms.size > 100);
  assert.deepEqual(
    [...rooms].filter(([, where]) => where.size > 1),
    [],
  );
});

test("nobody imports another room's store", () => {
  const wrong = imports.filter(
    ({ from, target }) => target !== undefined && basename(target) === "store.ts" && roomOf(from) !== roomOf(target),
  );
  assert.deepEqual(
    wrong.map(({ from, target }) => `${from} imports ${target}`),
    [],
  );
});

test("credential providers never see the vault, the database or the gate", () => {
  const wrong = imports.filter(
    ({ from, target }) => from.startsWith("broker/providers/") && /^(vault|db|authz)\//.test(target ?? ""),
  );
  assert.deepEqual(
    wrong.map(({ from, target }) => `${from} imports ${target}`),
    [],
  );
});

test("core imports nothing of Node and no package but zod and CEL", () => {
  const wrong = imports.filter(
    ({ from, specifier, target }) =>
      from.startsWith("core/") &&
      target === undefined &&
      !CORE_PACKAGES.some((name) => specifier === name || specifier.startsWith(`${name}/`)),
  );
  assert.deepEqual(
    wrong.map(({ from, specifier }) => `${from} imports ${specifier}`),
    [],
  );
});

test("time and chance are arguments of core", () => {
  assert.deepEqual(offenders(/\bDate\.now\(|\bnew Date\(\)|Math\.random\(|\bperformance\.now\(/, /^(?!core\/)/), []);
});

test("the wall clock is read in system alone", () => {
  assert.deepEqual(offenders(/\bDate\.now\(|\bnew Date\(\)/, /^(system|cli|sdk|console)\//), []);
});

test("nothing draws chance from Math.random", () => {
  assert.deepEqual(offenders(/Math\.random\b/, /^$/), []);
});

test("the environment is read in config.ts alone, and in config/cli for the command line", () => {
  assert.deepEqual(offenders(/\bprocess\.env\b|\benv\s*[,}].*=\s*process\b/, /^config(?:\/cli)?\.ts$/), []);
});

test("outbound requests leave by system/egress and the sdk alone", () => {
  const outbound = /(?<![.\w])fetch\(|globalThis\.fetch|\b(?:https?|http2)\.(?:request|get|connect)\(/;
  const allowed = /^(system\/egress|sdk\/)/;
  assert.deepEqual(offenders(outbound, allowed), []);
  assert.deepEqual(
    imports.filter(({ from, specifier }) => specifier === "undici" && !allowed.test(from)).map(({ from }) => from),
    [],
  );
});

test("key objects are made at once by system/key-pair alone: as Node gives them they may not be exported", () => {
  assert.deepEqual(offenders(/\bgenerateKeyPairSync\b/, /^system\/key-pair\.ts$/), []);
});

test("only vault/envelope ciphers", () => {
  assert.deepEqual(
    offenders(
      /\b(?:create(?:De|C)ipher(?:iv)?|(?:public|private)(?:En|De)crypt)\b|subtle\.(?:en|de)crypt/,
      /^vault\/envelope\.ts$/,
    ),
    [],
  );
});

test("only authz makes permits, and only core defines them", () => {
  assert.deepEqual(offenders(/new Permit\b/, /^authz\//), []);
  assert.deepEqual(offenders(/extends Permit\b|Object\.create\(Permit|Permit\.prototype/, /^$/), []);
});

test("no default exports, no barrels", () => {
  assert.deepEqual(offenders(/^export default\b|\bas default\b/m, /^$/), []);
  assert.deepEqual(offenders(/^export \* from/m, /^sdk\//), []);
  assert.deepEqual(
    files.filter((name) => basename(name) === "index.ts" && !name.startsWith("sdk/")),
    [],
  );
});

test(`no file has more than ${MAX_LINES} lines`, () => {
  const long = files.filter((name) => (texts.get(name) ?? "").split("\n").length - 1 > MAX_LINES);
  assert.deepEqual(long, []);
});

test("every name says something, in kebab-case", () => {
  const parts = new Set(files.flatMap((name) => name.split("/").map((part) => part.replace(/\.(d\.)?tsx?$/, ""))));
  assert.deepEqual(
    [...parts].filter((part) => EMPTY_WORDS.test(part) || !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(part)),
    [],
  );
});

test("nothing is left to do later without an issue", () => {
  const later = files.filter((name) => /\b(?:TODO(?!\(#\d+\))|FIXME|XXX)\b/.test(texts.get(name) ?? ""));
  assert.deepEqual(later, []);
});

test("every production dependency has its reason in an architecture decision, with its exact version in the package", () => {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Record<
    string,
    Record<string, string>
  >;
  const decision = readFileSync(join(root, "docs/adr/0006-dependencies.md"), "utf8");
  const names = Object.keys({ ...manifest["dependencies"], ...manifest["optionalDependencies"] });
  const reasoned = (name: string): boolean =>
    decision.includes(`\`${name}\``) || decision.includes(`\`${name.replace(/\/.*/, "/*")}\``);
  assert.deepEqual(
    names.filter((name) => !reasoned(name)),
    [],
  );
  const ranges = Object.entries({
    ...manifest["dependencies"],
    ...manifest["devDependencies"],
    ...manifest["optionalDependencies"],
  });
  assert.deepEqual(
    ranges.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)),
    [],
  );
});

test("the lock file names no registry", () => {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { resolved?: string }>;
  };
  assert.deepEqual(
    Object.entries(lock.packages)
      .filter(([, entry]) => entry.resolved !== undefined)
      .map(([name]) => name),
    [],
  );
});
