import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";

const HERE = new URL(".", import.meta.url);
const OWN = "table.test.ts";
const TITLE = /\btest\(\s*("(?:[^"\\]|\\.)*")/g;
const SECTION = /^## `([^`]+)`$/;
const ROW = /^\| (.+?) \| (.+) \|$/;

/** Titles by file, as the sources have them. */
async function testsThereAre(): Promise<Map<string, Set<string>>> {
  const files = (await readdir(HERE)).filter((name) => name.endsWith(".test.ts") && name !== OWN);
  return new Map(
    await Promise.all(
      files.map(async (name) => {
        const source = await readFile(new URL(name, HERE), "utf8");
        const titles = [...source.matchAll(TITLE)].map(([, literal]) => JSON.parse(literal ?? "") as string);
        assert.equal(new Set(titles).size, titles.length, `${name}: two tests have one title`);
        return [name, new Set(titles)] as const;
      }),
    ),
  );
}

/** Clauses and titles by file, as the table has them. */
async function rowsOfTable(): Promise<Map<string, { clause: string; title: string }[]>> {
  const rows = new Map<string, { clause: string; title: string }[]>();
  let section: { clause: string; title: string }[] = [];
  for (const line of (await readFile(new URL("README.md", HERE), "utf8")).split("\n")) {
    const name = SECTION.exec(line)?.[1];
    if (name !== undefined) rows.set(name, (section = []));
    const [, clause, title] = ROW.exec(line) ?? [];
    if (clause !== undefined && title !== undefined && clause !== "clause" && clause !== "---")
      section.push({ clause, title });
  }
  return rows;
}

test("the table of clauses names every test here, and no test that there is not", async () => {
  const tests = await testsThereAre();
  const rows = await rowsOfTable();
  assert.deepEqual([...rows.keys()].sort(), [...tests.keys()].sort());
  for (const [name, titles] of tests) {
    const named = new Set((rows.get(name) ?? []).map((row) => row.title));
    assert.deepEqual([...named].sort(), [...titles].sort(), name);
  }
});

test("every clause of the table stands in the title of its test", async () => {
  for (const [name, rows] of await rowsOfTable()) {
    assert.ok(rows.length > 0, name);
    for (const { clause, title } of rows) {
      const [, document = "", section] = /^(.+?)(?: ((?:§|appendix ).+))?$/.exec(clause) ?? [];
      assert.ok(title.endsWith(")") && title.includes(document), `${name}: ${clause}`);
      assert.ok(section === undefined || title.includes(section), `${name}: ${clause}`);
    }
  }
});
