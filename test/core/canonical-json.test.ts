import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { canonicalJson } from "../../src/core/canonical-json.ts";

describe("RFC 8785: one text for one value", () => {
  test("§3.2.2: the example of primitive values", () => {
    const value: unknown = JSON.parse(
      '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],' +
        '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    );
    assert.equal(
      canonicalJson(value),
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  test("§3.2.3: members in the order of UTF-16 code units, at every depth", () => {
    const names = ["\u20ac", "\r", "\ufb33", "1", "\u{1f600}", "\u0080", "\u00f6"];
    const value = {
      z: names.map((name) => ({ [name]: 1, "": 0 })),
      ...Object.fromEntries(names.map((name) => [name, 1])),
    };
    const order = [...canonicalJson(value).matchAll(/"([^"]*)":1,/g)].map(([, name]) => name);
    assert.deepEqual(order.slice(0, 2), ["\\r", "1"]);
    assert.match(canonicalJson(value), /"\u0080":1,"ö":1,"€":1,"😀":1,"\ufb33":1\}$/);
    assert.match(canonicalJson(value), /"z":\[\{"":0,"€":1\},/);
  });

  test("−0 is 0; what JSON does not have is refused", () => {
    assert.equal(canonicalJson([-0, 0]), "[0,0]");
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, undefined, 1n, "\ud800", { "\udc00": 1 }])
      assert.throws(() => canonicalJson([bad]), TypeError);
  });
});
