import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { SecretBytes } from "../../src/vault/secret-bytes.ts";

test("INV-15 a secret shows nothing as text, in JSON, inspected, spread or enumerated", () => {
  const secret = SecretBytes.fromText("hunter2");
  const shown = [
    String(secret),
    `${secret}`,
    JSON.stringify({ secret }),
    inspect({ secret }, { depth: 9, showHidden: true }),
    JSON.stringify({ ...secret }),
    Object.keys(secret).join(),
  ];
  for (const text of shown) {
    assert.ok(!text.includes("hunter2"));
    assert.ok(!text.includes("104"));
  }
});

test("a secret lends its bytes in UTF-8", () => {
  SecretBytes.fromText("hé🔑").use((bytes) => assert.equal(Buffer.from(bytes).toString(), "hé🔑"));
});

test("wipe overwrites the bytes, and use afterwards throws", () => {
  const bytes = new Uint8Array([1, 2, 3]);
  const secret = new SecretBytes(bytes);
  assert.equal(secret.length, 3);
  secret.wipe();
  secret.wipe();
  assert.deepEqual(bytes, new Uint8Array(3));
  assert.throws(() => secret.use((held) => held.length));
  assert.throws(() => secret.length);
});
