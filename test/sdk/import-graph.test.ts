import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
/** What a tool server or an agent gets with us, and nothing more. */
const PACKAGES = /^(?:jose|node:crypto|node:fs\/promises)$/;

interface Graph {
  readonly files: readonly string[];
  readonly packages: readonly string[];
}

/** Everything that an entry reaches, by imports of values and of types, static and dynamic. */
function graphOf(entry: string): Graph {
  const files = new Set<string>();
  const packages = new Set<string>();
  const open = [join(root, entry)];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (files.has(path)) continue;
    files.add(path);
    const text = readFileSync(path, "utf8");
    for (const [, from, bare, dynamic] of text.matchAll(
      /(?:^|\n)\s*(?:import|export)\s[^"';]*?from\s*"([^"]+)"|(?:^|\n)\s*import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"/g,
    )) {
      const specifier = from ?? bare ?? dynamic ?? "";
      if (specifier.startsWith(".")) open.push(resolve(dirname(path), specifier));
      else packages.add(specifier);
    }
  }
  const names = [...files].map((path) => relative(root, path).split(sep).join("/")).sort();
  return { files: names, packages: [...packages].sort() };
}

for (const entry of ["src/sdk/client.ts", "src/sdk/verify.ts"]) {
  test(`${entry} reaches only sdk and core, jose and Node: nothing of the server`, () => {
    const { files, packages } = graphOf(entry);
    assert.ok(files.length > 15, "the reader of imports sees the graph");
    assert.deepEqual(
      files.filter((name) => !/^src\/(sdk|core)\//.test(name)),
      [],
    );
    assert.deepEqual(
      packages.filter((name) => !PACKAGES.test(name)),
      [],
    );
  });
}

test("an agent's library brings no verifier, and a tool server's no client", () => {
  assert.deepEqual(
    graphOf("src/sdk/client.ts").files.filter((name) => name.startsWith("src/sdk/verify")),
    [],
  );
  assert.deepEqual(
    graphOf("src/sdk/verify.ts").files.filter((name) => name.startsWith("src/sdk/client")),
    [],
  );
});

test("the package exports the two libraries with their types, and nothing else of its inside", () => {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    exports: Record<string, Record<string, string> | string>;
  };
  assert.deepEqual(Object.keys(exports), ["./client", "./verify", "./package.json"]);
  for (const name of ["client", "verify"]) {
    assert.deepEqual(exports[`./${name}`], {
      "ephor-source": `./src/sdk/${name}.ts`,
      types: `./dist/sdk/${name}.d.ts`,
      default: `./dist/sdk/${name}.js`,
    });
  }
});
