import assert from "node:assert/strict";
import { test } from "node:test";
import { foreign, lookalike, type Alarms } from "../../src/console/hostile-text.ts";
import { html } from "../../src/console/html.ts";
import { jsonText } from "../../src/console/json-text.ts";
import { canonicalJson } from "../../src/core/canonical-json.ts";

const seen = (): Alarms => ({ unseen: 0, lookalikes: 0 });
/** What a reader copies out of it: the text of the markup. */
const textOf = (markup: unknown): string =>
  String(markup)
    .replace(/<[^>]*>/g, "")
    .replace(
      /&(amp|lt|gt|quot|#39|#96);/g,
      (_, name: string) => ({ amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", "#96": "`" })[name] ?? "",
    );

test("whatever is put into a template is text, in elements and in attributes; what a template made is not escaped twice", () => {
  const hostile = `"><script>alert(1)</script>'\`&amp;`;
  const made = String(
    html`<p title="${hostile}">${hostile}${html`<b>${hostile}</b>`}${[hostile, undefined, false, 7]}</p>`,
  );
  assert.doesNotMatch(made, /<script|"><|'|`/);
  assert.equal(made.split("&quot;&gt;&lt;script&gt;").length, 5);
  // An object that only looks like markup is none.
  assert.throws(() => String(html`${{ toString: () => "<script>" } as never}`));
});

test("A-APP-05 what cannot be seen or turns the direction is shown as its escape, counted, and nothing is taken away", () => {
  const unseen = [
    "\u0000",
    "\u0007",
    "\u001b",
    "\u007f",
    "\u0085",
    "\u00a0",
    "\u00ad",
    "\u034f",
    "\u061c",
    "\u115f",
    "\u1680",
    "\u17b4",
    "\u180e",
    "\u2003",
    "\u200b",
    "\u200d",
    "\u200e",
    "\u2028",
    "\u2029",
    "\u202a",
    "\u202e",
    "\u2060",
    "\u2066",
    "\u2069",
    "\u2800",
    "\u3000",
    "\u3164",
    "\ufe0f",
    "\ufeff",
    "\uffa0",
    "\ufff9",
    "\ud800",
    "\ue000",
    "\ufdd0",
    String.fromCodePoint(0xe0041),
    String.fromCodePoint(0xe0100),
    String.fromCodePoint(0x1d173),
    "\n",
    "\t",
  ];
  for (const character of unseen) {
    const alarms = seen();
    const text = textOf(foreign(`a${character}b c`, alarms));
    const escapes = Array.from(
      { length: character.length },
      (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`,
    );
    assert.equal(text, `a${escapes.join("")}b c`);
    assert.equal(alarms.unseen, 1, escapes.join(""));
  }
  for (const plain of ["Zoë O'Brien <z@x.example>", "日本語のテキスト", "שלום", "Привет, мир", "naïve café", "👍"]) {
    const alarms = seen();
    assert.equal(textOf(foreign(plain, alarms)), plain);
    assert.deepEqual(alarms, seen(), plain);
  }
});

test("A-APP-05 words that look like others are marked, words of one language are not", () => {
  for (const word of ["pаypal", "раураӏ", "аррӏе", "gооgle", "ｐaypal", "𝐩aypal", "αdmin", "ｒｏｏｔ", "νοτ"])
    assert.notEqual(lookalike(word), undefined, word);
  for (const word of [
    "paypal",
    "Москва",
    "привет",
    "Ελλάδα",
    "日本",
    "東京tower",
    "Straße",
    "naïve",
    "한국어",
    "שלום",
    "x2",
    "_",
  ])
    assert.equal(lookalike(word), undefined, word);
  const alarms = seen();
  const shown = String(foreign("https://pаypal.example/раураӏ?a=1", alarms));
  assert.equal(alarms.lookalikes, 2);
  assert.match(shown, /<mark class="lookalike" title="Latin and Cyrillic letters in one word">/);
  assert.doesNotMatch(shown, /<a /);
});

test("A-APP-05 arguments of 100 kB are whole: the text on the page reads back as the value, in canonical order", () => {
  const long = "0123456789".repeat(10_000);
  const value = {
    z: long,
    b: [1, 1.5, 1e21, -0, true, null, "\u202e<script>", { "\u200b": "x", a: {}, e: [] }],
    a: 'line\nend "quoted" \\u202e \u2028 pаypal',
    "<img src=x onerror=alert(1)>": "</pre><script>alert(1)</script>",
  };
  const { markup, alarms, characters } = jsonText(value);
  const text = textOf(markup);
  assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)));
  assert.equal(canonicalJson(JSON.parse(text)), canonicalJson(value), "members in canonical order, nothing lost");
  assert.equal(characters, canonicalJson(value).length);
  assert.deepEqual(Object.keys(JSON.parse(text) as object), Object.keys(value).toSorted());
  assert.ok(text.includes(long));
  assert.equal(alarms.unseen, 3);
  assert.equal(alarms.lookalikes, 1);
  assert.doesNotMatch(String(markup), /<(?!\/?(?:pre|bdi|mark)\b)|\u202e|\u200b|\u2028/);
});
