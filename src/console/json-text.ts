import { foreignString, type Alarms } from "./hostile-text.ts";
import { html, type Part } from "./html.ts";

/** Canonical JSON (RFC 8785: order of members, spelling of numbers and strings) on lines of its own. */
export interface JsonText {
  /** Whole: nothing is cut. */
  readonly markup: Part;
  readonly alarms: Alarms;
  /** Characters of the canonical text without its line breaks and blanks. */
  readonly characters: number;
}

/** A JSON value that a stranger sent, as the text that is decided about. */
export function jsonText(value: unknown): JsonText {
  const writing: Writing = { parts: [], alarms: { unseen: 0, lookalikes: 0 }, characters: 0 };
  write(value, "", writing);
  const { parts, alarms, characters } = writing;
  return { markup: html`<pre class="json" tabindex="0">${parts}</pre>`, alarms, characters };
}

interface Writing {
  readonly parts: Part[];
  readonly alarms: Alarms;
  characters: number;
}

function write(value: unknown, indent: string, to: Writing): void {
  if (typeof value === "string") return string(value, to);
  if (typeof value !== "object" || value === null) return plain(JSON.stringify(value) ?? "null", to);
  const isList = Array.isArray(value);
  const members: readonly (readonly [string, unknown])[] = isList
    ? value.map((member, at) => [String(at), member] as const)
    : Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const [open, close] = isList ? ["[", "]"] : ["{", "}"];
  plain(open, to);
  const inner = `${indent}  `;
  members.forEach(([name, member], at) => {
    if (at > 0) plain(",", to);
    to.parts.push(`\n${inner}`);
    if (!isList) {
      string(name, to);
      plain(":", to);
      to.parts.push(" ");
    }
    write(member, inner, to);
  });
  if (members.length > 0) to.parts.push(`\n${indent}`);
  plain(close, to);
}

function plain(text: string, to: Writing): void {
  to.parts.push(text);
  to.characters += text.length;
}

function string(text: string, to: Writing): void {
  to.parts.push(foreignString(text, to.alarms));
  to.characters += JSON.stringify(text).length;
}
