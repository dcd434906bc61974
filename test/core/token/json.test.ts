import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { JsonOptions } from "../../../src/core/token/json.ts";
import { readJson } from "../../../src/core/token/json.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const read = (text: string, options?: JsonOptions) => readJson(bytes(text), options);
const refuses = (text: string, problem: string, options?: JsonOptions) =>
  assert.throws(() => read(text, options), { name: "JsonError", problem }, text.slice(0, 60));

test("a text that is read has JSON.parse's value, whatever JSON it is", () => {
  fc.assert(
    fc.property(fc.json({ stringUnit: "binary" }), (text) => {
      let value: unknown;
      try {
        value = read(text);
      } catch (error) {
        assert.ok(["number", "member", "string"].includes((error as { problem: string }).problem));
        return;
      }
      assert.deepEqual(value, JSON.parse(text));
    }),
    { numRuns: 500 },
  );
});

test("any mutation of JSON is refused with JsonError, or read as JSON.parse reads it", () => {
  const seed = bytes('{"a":[1,{"b":"x\\u0041\\"y"},-2.5e3,null,true],"c":{"d":{}},"é":"\u{1f600}"}');
  const edits = fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(edits, (changes) => {
      const mutant = Uint8Array.from(seed);
      for (const [index, byte] of changes) mutant[index] = byte;
      let value: unknown;
      try {
        value = readJson(mutant);
      } catch (error) {
        assert.equal((error as Error).name, "JsonError");
        return;
      }
      assert.deepEqual(value, JSON.parse(Buffer.from(mutant).toString("utf8")));
    }),
    { numRuns: 5000 },
  );
});

test("a duplicated member anywhere in a generated document is found, and only then", () => {
  const name = fc.constantFrom("a", "b", "c", "\u0061", 's"b', ":");
  const tree = fc.letrec<{ node: string; leaf: string; object: string; array: string }>((tie) => ({
    leaf: fc.constantFrom("1", '"a:b"', '"{\\"a\\":1}"', "null"),
    array: fc.array(tie("node"), { maxLength: 3 }).map((elements) => `[${elements.join(",")}]`),
    object: fc
      .array(fc.tuple(name, tie("node")), { maxLength: 4 })
      .map((members) => `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",")}}`),
    node: fc.oneof({ depthSize: "small" }, tie("leaf"), tie("array"), tie("object")),
  })).node;
  fc.assert(
    fc.property(tree, (text) => {
      if (hasDuplicate(text)) refuses(text, "duplicate");
      else assert.deepEqual(read(text), JSON.parse(text));
    }),
    { numRuns: 3000 },
  );
});

/** Another way to find duplicates: the reviver of JSON.parse cannot see them, so parse by hand, name by name. */
function hasDuplicate(text: string): boolean {
  const open: (Set<string> | undefined)[] = [];
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"(?:\s*:)?|[[\]{}]/g)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(undefined);
    else if (token === "}" || token === "]") open.pop();
    else if (token.endsWith(":")) {
      const key = JSON.parse(token.slice(0, -1)) as string;
      if (open.at(-1)?.has(key)) return true;
      open.at(-1)?.add(key);
    }
  }
  return false;
}

test("A-JWT-05 duplicate members are refused at any depth and however they are spelled", () => {
  assert.deepEqual(read('{"sub":"a","Sub":"b"}'), { sub: "a", Sub: "b" });
  for (const text of [
    '{"sub":"a","sub":"b"}',
    '{"sub":"a","sub":"a"}',
    '{"sub":"a","s\\u0075b":"b"}',
    '{"act":{"sub":"a","sub":"b"}}',
    '{"x":[[{"exp":1,"\\u0065xp":2}]]}',
    '{"":1,"":2}',
    '{"a":{"b":1},"a":{"b":1,"c":2}}',
    '{"\\u00e9":1,"é":2}',
  ]) {
    refuses(text, "duplicate");
  }
});

test("A-JWT-11 nesting of 32 is read, of 33 refused, however far it would go", () => {
  const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  assert.ok(Array.isArray(read(nested(32))));
  refuses(nested(33), "depth");
  refuses('{"a":'.repeat(33) + "1" + "}".repeat(33), "depth");
  refuses("[".repeat(1_000_000), "depth");
  assert.ok(read(nested(4), { maxDepth: 4 }));
  refuses(nested(5), "depth", { maxDepth: 4 });
  assert.deepEqual(read('"' + "[".repeat(50) + '"'), "[".repeat(50));
});

test("A-JWT-06 numbers that are infinite, or integers beyond 2^53, are refused", () => {
  assert.deepEqual(read("[9007199254740991,-9007199254740991,1.5,-0,1e2]"), [2 ** 53 - 1, 1 - 2 ** 53, 1.5, -0, 100]);
  for (const text of ["1e999", "-1e999", "9007199254740992", "9007199254740993", "1e308", '[{"a":1e400}]']) {
    refuses(text, "number");
  }
  assert.equal(read("9007199254740992", { allowUnsafeIntegers: true }), 2 ** 53);
  refuses("1e999", "number", { allowUnsafeIntegers: true });
});

test("A-JWT-12 lone surrogates, NUL, a byte order mark and invalid UTF-8 are refused", () => {
  assert.equal(read('"\\ud83d\\ude00"'), "\u{1f600}");
  for (const text of ['"\\ud800"', '"\\udc00\\ud800"', '{"\\ud800":1}', '["a\\udfffb"]']) refuses(text, "string");
  refuses('{"sub":"a\\u0000"}', "string");
  refuses('{"a\\u0000":1}', "string");
  assert.equal(read('"a\\u0000"', { allowNul: true }), "a\0");
  refuses('\ufeff{"a":1}', "syntax");
  for (const raw of [
    [0x22, 0xff, 0x22],
    [0x22, 0xc0, 0x80, 0x22],
    [0x22, 0xed, 0xa0, 0x80, 0x22],
    [0x22, 0xe2, 0x82, 0x22],
  ]) {
    assert.throws(() => readJson(Uint8Array.from(raw)), { name: "JsonError", problem: "encoding" });
  }
});

test("text after the value, and anything that is not JSON, is refused", () => {
  assert.deepEqual(read(' {"a" : 1}\n'), { a: 1 });
  for (const text of [
    "",
    " ",
    "{}x",
    "{}{}",
    '{"a":1,}',
    "[1,]",
    "{'a':1}",
    "01",
    "+1",
    ".5",
    "NaN",
    "Infinity",
    "undefined",
  ]) {
    refuses(text, "syntax");
  }
  for (const text of ['"a\nb"', '"\\x"', '"\\u12"', '"', '{"a"}', "/**/1", "tru", '"\t"', "{:}", "\u00a01"]) {
    refuses(text, "syntax");
  }
});

test("__proto__ is refused as a member, and names that objects inherit are plain members", () => {
  refuses('{"__proto__":{"admin":true}}', "member");
  refuses('[{"a":{"\\u005f_proto__":1}}]', "member");
  assert.ok(Object.hasOwn(read('{"constructor":1}') as object, "constructor"));
  assert.equal(({} as { admin?: boolean }).admin, undefined);
});
