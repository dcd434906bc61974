import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { DecryptError, type DecryptFault } from "../../src/vault/decrypt-error.ts";
import { createEnvelope, localKeyEncryptionKey, type Sealed } from "../../src/vault/envelope.ts";
import type { Place } from "../../src/vault/place.ts";
import { SecretBytes } from "../../src/vault/secret-bytes.ts";

const place: Place = { table: "secrets", row: "crm-key", version: 3, purpose: "value" };

function newKek(id: string) {
  return localKeyEncryptionKey(id, new SecretBytes(randomBytes(32)));
}

const kek = newKek("k1");
const envelope = createEnvelope({ kek });

async function seal(text: string, at: Place = place): Promise<Sealed> {
  return envelope.seal(SecretBytes.fromText(text), at);
}

function textOf(secret: SecretBytes): string {
  return secret.use((bytes) => Buffer.from(bytes).toString());
}

async function refuses(opening: Promise<unknown>, fault?: DecryptFault): Promise<void> {
  await assert.rejects(opening, (error: unknown) => {
    assert.ok(error instanceof DecryptError);
    assert.equal(error.reason, "decrypt_failed");
    assert.equal(error.code, "server_error");
    assert.equal(error.status, 500);
    if (fault !== undefined) assert.equal(error.fault, fault);
    return true;
  });
}

test("a sealed value opens in its place", async () => {
  assert.equal(textOf(await envelope.open(await seal("s3cret"), place)), "s3cret");
});

test("INV-22 any bytes open unchanged after a round trip through JSON, in their place", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (value) => {
      const sealed = JSON.parse(JSON.stringify(await envelope.seal(new SecretBytes(value.slice()), place)));
      const opened = await envelope.open(sealed, place);
      opened.use((bytes) => assert.deepEqual(new Uint8Array(bytes), value));
    }),
    { numRuns: 50 },
  );
});

test("INV-22 a value does not open in any other place", async () => {
  const anyPlace = fc.record({
    table: fc.constantFrom("secrets", "keys", ""),
    row: fc.oneof(fc.constantFrom("crm-key", 'crm-key","3', ""), fc.string()),
    version: fc.integer({ min: 1, max: 5 }),
    purpose: fc.constantFrom("value", "private-key"),
  });
  await fc.assert(
    fc.asyncProperty(anyPlace, anyPlace, async (here, there) => {
      fc.pre(JSON.stringify(here) !== JSON.stringify(there));
      await refuses(envelope.open(await seal("s3cret", here), there), "not_authentic");
    }),
    { numRuns: 200 },
  );
});

test("A-SEC-01 A-SEC-03 swapped members of two versions of a secret never open, in any mixture", async () => {
  const today = await seal("today", place);
  const yesterday = await seal("yesterday", { ...place, version: 2 });
  const names = ["wrapped", "iv", "ct", "tag"] as const;
  for (let mixture = 1; mixture < 16; mixture++) {
    const mixed: Record<string, unknown> = { ...today };
    names.forEach((name, bit) => {
      if ((mixture >> bit) & 1) mixed[name] = yesterday[name];
    });
    await refuses(envelope.open(mixed, place), "not_authentic");
  }
});

test("A-SEC-02 no byte of any member can be changed, and no member cut, lengthened or left out", async () => {
  const sealed = await seal("s3cret");
  for (const name of ["wrapped", "iv", "ct", "tag"] as const) {
    const bytes = Buffer.from(sealed[name], "base64url");
    for (let at = 0; at < bytes.length; at++) {
      for (const bit of [1, 0x80]) {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] as number) ^ bit;
        await refuses(envelope.open({ ...sealed, [name]: changed.toString("base64url") }, place));
      }
      await refuses(envelope.open({ ...sealed, [name]: bytes.subarray(0, at).toString("base64url") }, place));
    }
    await refuses(envelope.open({ ...sealed, [name]: `${sealed[name]}AA` }, place));
    const { [name]: _, ...without } = sealed;
    await refuses(envelope.open(without, place), "malformed");
  }
});

test("A-SEC-02 no character of any member can be replaced by another spelling of the same bytes", async () => {
  const sealed = await seal("s3cret");
  for (const name of ["wrapped", "iv", "ct", "tag"] as const) {
    for (const spelling of [`${sealed[name]}=`, ` ${sealed[name]}`, `${sealed[name]}\n`]) {
      await refuses(envelope.open({ ...sealed, [name]: spelling }, place), "malformed");
    }
  }
  // 16 bytes leave 4 unused bits in the last character.
  const last = sealed.tag.at(-1) as string;
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const twin = alphabet[alphabet.indexOf(last) + 1] as string;
  await refuses(envelope.open({ ...sealed, tag: sealed.tag.slice(0, -1) + twin }, place), "malformed");
});

test("A-SEC-02 a changed key id does not open, also where it names another key that we hold", async () => {
  const other = newKek("k2");
  const both = createEnvelope({ kek, previous: [other] });
  const sealed = await both.seal(SecretBytes.fromText("s3cret"), place);
  await refuses(both.open({ ...sealed, kek: "k3" }, place), "kek_unknown");
  await refuses(both.open({ ...sealed, kek: "k2" }, place), "not_authentic");
});

test("what is not a sealed value does not open", async () => {
  const sealed = await seal("s3cret");
  for (const column of [
    null,
    undefined,
    "x",
    7,
    [],
    {},
    { ...sealed, v: 2 },
    { ...sealed, more: 1 },
    { ...sealed, ct: 5 },
  ]) {
    await refuses(envelope.open(column, place), "malformed");
  }
});

test("a GCM tag of 4 bytes is refused, though Node would take it", async () => {
  const sealed = await seal("s3cret");
  const short = Buffer.from(sealed.tag, "base64url").subarray(0, 4).toString("base64url");
  await refuses(envelope.open({ ...sealed, tag: short }, place), "malformed");
});

test("INV-15 the refusal names the place and nothing of the value", async () => {
  const sealed = await seal("s3cret");
  await assert.rejects(envelope.open(sealed, { ...place, version: 4 }), (error: unknown) => {
    assert.ok(error instanceof DecryptError);
    assert.deepEqual(error.facts, { ...place, version: 4, fault: "not_authentic" });
    const shown = JSON.stringify(error) + error.stack;
    for (const value of ["s3cret", sealed.ct, sealed.wrapped]) assert.ok(!shown.includes(value));
    return true;
  });
});

test("two seals of one value share no member that could tell that they are equal", async () => {
  const [one, two] = [await seal("s3cret"), await seal("s3cret")];
  for (const name of ["wrapped", "iv", "ct", "tag"] as const) assert.notEqual(one[name], two[name]);
});

test("INV-23 a value opens after its key-encryption key was replaced, and after rewrapping without the old one", async () => {
  const old = await seal("s3cret");
  const renewed = createEnvelope({ kek: newKek("k2"), previous: [kek] });
  assert.equal(textOf(await renewed.open(old, place)), "s3cret");
  const rewrapped = await renewed.rewrap(old, place);
  assert.equal(rewrapped.kek, "k2");
  assert.equal(rewrapped.ct, old.ct);
  assert.equal(textOf(await renewed.open(rewrapped, place)), "s3cret");
  await refuses(envelope.open(rewrapped, place), "kek_unknown");
});

test("rewrapping refuses a value of another place", async () => {
  const sealed = await seal("s3cret");
  await refuses(envelope.rewrap(sealed, { ...place, row: "other" }), "not_authentic");
});
