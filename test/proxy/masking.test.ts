import assert from "node:assert/strict";
import { test } from "node:test";
import { relayedHeaders } from "../../src/proxy/forwarded-headers.ts";
import { createMasking } from "../../src/proxy/masking.ts";
import { spellingsOf } from "../../src/proxy/spellings.ts";

/** What comes out, of whatever pieces it came in. */
function masked(secrets: readonly string[], body: string | Buffer): string[] {
  const bytes = Buffer.from(body);
  return [bytes.length, 1, 7].map((size) => {
    const masking = createMasking(secrets.flatMap(spellingsOf));
    const out: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += size) out.push(masking.push(bytes.subarray(at, at + size)));
    return Buffer.concat([...out, masking.end()]).toString("latin1");
  });
}

/** Nothing of a secret but asterisks, between what was there. */
function hides(secrets: readonly string[], echo: string | Buffer, label: string): void {
  const bytes = Buffer.from(echo);
  const body = Buffer.concat([Buffer.from("<"), bytes, Buffer.from(">")]);
  for (const text of masked(secrets, body)) assert.equal(text, `<${"*".repeat(bytes.length)}>`, label);
}

const KEY = "k3y/with+all&of<it>'s=";

test("A-PRX-09, INV-16 a secret is hidden as each usual writer of JSON, URLs, forms and HTML spells it", () => {
  const spellings: Record<string, string> = {
    "PHP's JSON": `k3y\\/with+all&of<it>'s=`,
    "Go's and Rails' JSON": "k3y/with+all\\u0026of\\u003cit\\u003e's=",
    "Gson's JSON": "k3y/with+all\\u0026of\\u003cit\\u003e\\u0027s\\u003d",
    ".NET's JSON": "k3y/with\\u002Ball\\u0026of\\u003Cit\\u003E\\u0027s=",
    "a URL": "k3y%2Fwith%2Ball%26of%3Cit%3E's%3D",
    "RFC 3986": "k3y%2Fwith%2Ball%26of%3Cit%3E%27s%3D",
    "lower-case hex": "k3y%2fwith%2ball%26of%3cit%3e%27s%3d",
    HTML: "k3y/with+all&amp;of&lt;it&gt;&#39;s=",
    "PHP's HTML": "k3y/with+all&amp;of&lt;it&gt;&#039;s=",
    "Python's HTML": "k3y/with+all&amp;of&lt;it&gt;&#x27;s=",
    "Handlebars' HTML": "k3y/with+all&amp;of&lt;it&gt;&#x27;s&#x3D;",
    hex: Buffer.from(KEY).toString("hex"),
    HEX: Buffer.from(KEY).toString("hex").toUpperCase(),
  };
  for (const [label, text] of Object.entries(spellings)) hides([KEY], text, label);
  hides([`Bearer ${KEY}`], new URLSearchParams([["", `Bearer ${KEY}`]]).toString().slice(1), "a form");
});

test("A-PRX-09, INV-16 a secret is hidden in base64 wherever in the encoded text it stands", () => {
  const secret = "a-secret-of-some-length-0123456789";
  for (const encoding of ["base64", "base64url"] as const)
    for (const before of ["", "x", "xy", "xyz", "authorization: Bearer "])
      for (const behind of ["", "\r\n", "~~~"]) {
        const echo = Buffer.from(before + secret + behind).toString(encoding);
        for (const text of masked([secret], echo)) {
          assert.equal(text.length, echo.length);
          const left = Buffer.from(text.replaceAll("*", "A"), "base64").toString("latin1");
          // Of a character that shares its letters with a neighbour a few bits may be left.
          assert.ok(
            !left.includes(secret.slice(2, 8)) && !left.includes(secret.slice(-8, -2)),
            `${before}|${behind}: ${text}`,
          );
          assert.match(text, /\*{40,}/);
        }
      }
});

test("A-PRX-09, INV-16 a secret beyond ASCII is hidden in UTF-8, in Latin-1, in escapes and in headers", () => {
  const secret = "clé-secrète-0123";
  hides([secret], secret, "UTF-8");
  hides([secret], Buffer.from(secret, "latin1"), "Latin-1");
  hides([secret], "cl\\u00e9-secr\\u00e8te-0123", "Python's JSON");
  hides([secret], "cl\\u00E9-secr\\u00E8te-0123", ".NET's JSON");
  const { holds } = createMasking(spellingsOf(secret));
  assert.ok(holds(Buffer.from(secret, "utf8").toString("latin1")), "a header's UTF-8, as Node reads it");
  assert.ok(holds(secret));
});

test("A-PRX-09, INV-16 of secrets that begin alike, or overlap, each is hidden whole, whatever the chunks", () => {
  const [short, long] = ["crm-user", "crm-user-password"];
  for (const text of masked([short, long], `<${long}> <${short}> crm-use`))
    assert.equal(text, `<${"*".repeat(long.length)}> <${"*".repeat(short.length)}> crm-use`);
  for (const text of masked(["alpha-omega", "omega-beta"], "<alpha-omega-beta> alpha-omega-b"))
    assert.equal(text, `<${"*".repeat(16)}> ${"*".repeat(11)}-b`);
});

test("A-PRX-09, INV-16 of Basic credentials the password is hidden by itself, too", () => {
  const pair = Buffer.from("crm-user:a-long-password").toString("base64");
  hides([`Basic ${pair}`], "a-long-password", "password");
  hides([`Basic ${pair}`], "crm-user:a-long-password", "both");
});

test("A-PRX-09, INV-16 a header whose name or value holds a secret is left out", () => {
  const { holds } = createMasking(spellingsOf("a-long-password"));
  const raw = ["X-A", "kept", "X-a-long-password", "1", "X-B", 'said "a-long-password"'];
  assert.deepEqual(relayedHeaders(raw, holds), [["X-A", "kept"]]);
});
