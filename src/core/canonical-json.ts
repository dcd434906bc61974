/**
 * The one text of a JSON value (RFC 8785, JCS): members in the order of the UTF-16 code units of their names, numbers and
 * strings as ECMAScript writes them, no blanks. Equal values have equal texts, so a digest of the text is one of the value.
 *
 * @param value as `readJson` gives it: no number that is not finite, no lone surrogate
 * @throws {TypeError} for what is no JSON value
 * @see RFC 8785 §3.2
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, member]) => `${stringText(name)}:${canonicalJson(member)}`).join(",")}}`;
  }
  if (typeof value === "string") return stringText(value);
  if (value === null || typeof value === "boolean") return String(value);
  // ECMAScript's own text of a number is the one that RFC 8785 §3.2.2.3 asks for; −0 is 0.
  if (typeof value === "number" && Number.isFinite(value)) return JSON.stringify(value);
  throw new TypeError("no JSON value");
}

function stringText(text: string): string {
  if (!text.isWellFormed()) throw new TypeError("no JSON value");
  return JSON.stringify(text);
}
