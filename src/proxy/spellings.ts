/** Shorter texts occur by chance; hiding them would damage answers and hide nothing. */
const MIN_BYTES = 6;

type Spelling = (value: string) => string;

/** The ways in which what is sent as a header comes back in an answer. What one of them leaves alone costs nothing. */
const ESCAPING: readonly Spelling[] = [
  json(/(?!)/g),
  // Python; PHP; Go and Rails; Gson; .NET.
  json(/[\u007f-\uffff]/g),
  (value) => json(/[\u007f-\uffff]/g)(value).replaceAll("/", "\\/"),
  json(/[<>&]/g),
  json(/[<>&='\u2028\u2029]/g),
  (value) => upperCased(json(/[<>&'"+`\u007f-\uffff]/g)(value)),
  encodeURIComponent,
  strictly,
  (value) => lowerCased(encodeURIComponent(value)),
  (value) => lowerCased(strictly(value)),
  (value) => new URLSearchParams([["", value]]).toString().slice(1),
  html("&#39;"),
  html("&#039;"),
  html("&#x27;"),
  (value) => html("&#x27;")(value).replaceAll("`", "&#x60;").replaceAll("=", "&#x3D;"),
];

/** Characters that every writer leaves as they are. */
const PLAIN = /^[A-Za-z0-9._-]*$/;

/**
 * How a value may come back: as it is, in JSON, in a URL or a form, in HTML, in hexadecimal, in base64 of itself or of a text in
 * which it stands; of Basic credentials (RFC 7617) also their password.
 */
export function spellingsOf(value: string): readonly string[] {
  const spellings = new Set([value]);
  if (!PLAIN.test(value)) for (const spell of ESCAPING) spellings.add(spell(value));
  const bytes = Buffer.from(value, "utf8");
  const hex = bytes.toString("hex");
  spellings.add(hex).add(hex.toUpperCase());
  for (const text of inBase64(bytes)) {
    spellings.add(text).add(text.replaceAll("+", "-").replaceAll("/", "_"));
    spellings.add(text.replaceAll("/", "\\/"));
  }
  for (const part of ofBasic(value)) for (const text of spellingsOf(part)) spellings.add(text);
  return [...spellings].filter((text) => Buffer.byteLength(text) >= MIN_BYTES);
}

/** Of itself; and the letters that are the same whatever stands before and behind it, for each place at which it may begin. */
function inBase64(bytes: Buffer): string[] {
  const texts = [bytes.toString("base64").replace(/=+$/, "")];
  for (const before of [0, 1, 2]) {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString("base64");
    texts.push(text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6)));
  }
  return texts;
}

function ofBasic(value: string): string[] {
  const [, encoded] = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(value) ?? [];
  if (encoded === undefined) return [];
  const pair = Buffer.from(encoded, "base64").toString("utf8");
  return [pair, pair.slice(pair.indexOf(":") + 1)];
}

/** @param escaped what this writer escapes beyond what all have to */
function json(escaped: RegExp): Spelling {
  return (value) =>
    JSON.stringify(value)
      .slice(1, -1)
      .replaceAll(escaped, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function upperCased(text: string): string {
  return text.replaceAll(/\\u[0-9a-f]{4}/g, (escape) => `\\u${escape.slice(2).toUpperCase()}`);
}

/** With what RFC 3986 §2.2 reserves and `encodeURIComponent` leaves. */
function strictly(value: string): string {
  return encodeURIComponent(value).replaceAll(
    /[!'()*]/g,
    (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function lowerCased(text: string): string {
  return text.replaceAll(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase());
}

/** @param quote how it writes an apostrophe, which HTML 4 has no name for */
function html(quote: string): Spelling {
  return (value) =>
    value
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      .replaceAll("'", quote);
}
