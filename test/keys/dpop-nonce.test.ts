import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { createDpopNonces } from "../../src/keys/dpop-nonce.ts";

const secret = randomBytes(32);
const nonces = createDpopNonces(() => secret);
/** The beginning of a bucket. */
const t0 = 1_795_348_800;

test("a nonce is taken in its minute and the next, and refused afterwards (RFC 9449 §8)", () => {
  const nonce = nonces.current(t0);
  assert.equal(nonces.accepts(nonce, t0), true);
  assert.equal(nonces.accepts(nonce, t0 + 119), true);
  assert.equal(nonces.accepts(nonce, t0 + 120), false);
});

test("a nonce of a replica whose clock is a little ahead is taken, one of the minute after that is not", () => {
  assert.equal(nonces.accepts(nonces.current(t0 + 60), t0 + 59), true);
  assert.equal(nonces.accepts(nonces.current(t0 + 120), t0 + 59), false);
});

test("the nonce is the same all through its minute, on every replica, and another one in the next", () => {
  assert.equal(nonces.current(t0), createDpopNonces(() => secret).current(t0 + 59));
  assert.notEqual(nonces.current(t0), nonces.current(t0 + 60));
});

test("a nonce made with another secret is refused", () => {
  const other = createDpopNonces(() => randomBytes(32));
  assert.equal(nonces.accepts(other.current(t0), t0), false);
});

test("a nonce with any character changed, cut, lengthened or spelled otherwise is refused", () => {
  const nonce = nonces.current(t0);
  for (let at = 0; at < nonce.length; at++) {
    const changed = nonce.slice(0, at) + (nonce[at] === "A" ? "B" : "A") + nonce.slice(at + 1);
    assert.equal(nonces.accepts(changed, t0), false);
  }
  for (const text of [
    "",
    nonce.slice(1),
    nonce.slice(0, -1),
    `${nonce}A`,
    `${nonce}=`,
    ` ${nonce}`,
    nonce.replace(/./, "é"),
  ]) {
    assert.equal(nonces.accepts(text, t0), false);
  }
});

test("a nonce fits NQCHAR, the syntax of the DPoP-Nonce header (RFC 9449 §8.1)", () => {
  assert.match(nonces.current(t0), /^[A-Za-z0-9_-]{27}$/);
});
