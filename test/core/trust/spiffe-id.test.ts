import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSpiffeId } from "../../../src/core/trust/spiffe-id.ts";

test("a SPIFFE ID has a trust domain and a path", () => {
  assert.deepEqual(parseSpiffeId("spiffe://prod.acme.example/ns/a/sa/B_1.x-y"), {
    text: "spiffe://prod.acme.example/ns/a/sa/B_1.x-y",
    trustDomain: "prod.acme.example",
    path: "/ns/a/sa/B_1.x-y",
  });
  assert.equal(parseSpiffeId("spiffe://prod_1")?.path, "");
});

test("A-OIDC-21 what is not exactly a SPIFFE ID is none", () => {
  for (const text of [
    "",
    "spiffe://",
    "spiffe:///a",
    "SPIFFE://example.org/a",
    "https://example.org/a",
    "spiffe://EXAMPLE.org/a",
    "spiffe://example.org/",
    "spiffe://example.org/a/",
    "spiffe://example.org//a",
    "spiffe://example.org/a//b",
    "spiffe://example.org/ns/a/../b",
    "spiffe://example.org/.",
    "spiffe://example.org/..",
    "spiffe://example.org/a%2Fb",
    "spiffe://example.org/a?b",
    "spiffe://example.org/a#b",
    "spiffe://example.org:443/a",
    "spiffe://user@example.org/a",
    "spiffe://example.org/ä",
    "spiffe://example.org/a b",
    "spiffe://example.org/a\n",
    " spiffe://example.org/a",
  ]) {
    assert.equal(parseSpiffeId(text), undefined, text);
  }
});

test("a trust domain has at most 255 bytes and an ID at most 2,048", () => {
  assert.ok(parseSpiffeId(`spiffe://${"a".repeat(255)}/x`));
  assert.equal(parseSpiffeId(`spiffe://${"a".repeat(256)}/x`), undefined);
  assert.ok(parseSpiffeId(`spiffe://a/${"b".repeat(2048 - 11)}`));
  assert.equal(parseSpiffeId(`spiffe://a/${"b".repeat(2048 - 10)}`), undefined);
});
