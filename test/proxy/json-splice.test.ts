import assert from "node:assert/strict";
import { test } from "node:test";
import { spliced } from "../../src/proxy/mcp/json-splice.ts";

const idOf = (text: string, to = '"mine"'): string => spliced(text, [{ path: ["id"], to }]);

test("one value is replaced, and every other byte stays", () => {
  assert.equal(idOf('{"id":1,"n":1.50e+3}'), '{"id":"mine","n":1.50e+3}');
  assert.equal(idOf(' {"a" : [ {"id":1}, "id" ] , "id" : -1.0e5 } '), ' {"a" : [ {"id":1}, "id" ] , "id" : "mine" } ');
  assert.equal(idOf('{"result":{"id":"}"},"\\u0069d":{"a":["]"]}}'), '{"result":{"id":"}"},"\\u0069d":"mine"}');
  assert.equal(idOf('{"text":"\\"id\\":1,\\\\","id":null}'), '{"text":"\\"id\\":1,\\\\","id":"mine"}');
});

test("what is not there is not made", () => {
  for (const text of ['{"result":{"id":1}}', "{}", "[1]", '"id"', '{"id2":1}']) assert.equal(idOf(text), text);
});

test("a path leads through objects alone", () => {
  const path = ["params", "_meta", "a/b"];
  assert.equal(
    spliced('{"params":{"x":1,"_meta":{"a/b":[1,2]}}}', [{ path, to: "7" }]),
    '{"params":{"x":1,"_meta":{"a/b":7}}}',
  );
  assert.equal(spliced('{"params":["_meta"]}', [{ path, to: "7" }]), '{"params":["_meta"]}');
});
