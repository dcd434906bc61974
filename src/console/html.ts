/**
 * The room `console` owns the operator's pages: HTML made on the server, without a script. It is a client of the API: what it
 * shows and does goes through `/v1`, in process, with the caller's session. It decides nothing and knows no database.
 *
 * This file: the only way in which text becomes HTML.
 */

/** HTML that was made here. Nothing else goes into a page as it is. */
export class Markup {
  readonly #text: string;

  private constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }

  /** INVARIANT: called by `html` alone, with literals of our own source and escaped values. */
  static made(literals: readonly string[], values: readonly Part[]): Markup {
    let text = literals[0] ?? "";
    values.forEach((value, at) => (text += written(value) + (literals[at + 1] ?? "")));
    return new Markup(text);
  }
}

/** What may stand in a template; `undefined` and `false` are nothing. */
export type Part = Markup | string | number | false | undefined | readonly Part[];

/** A template that escapes whatever is put into it, in text and in quoted attributes alike. */
export function html(literals: TemplateStringsArray, ...values: readonly Part[]): Markup {
  return Markup.made(literals, values);
}

function written(value: Part): string {
  if (value === undefined || value === false) return "";
  if (value instanceof Markup) return value.toString();
  if (typeof value === "object") return value.map(written).join("");
  return escaped(String(value));
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
  "`": "&#96;",
};

function escaped(text: string): string {
  return text.replace(/[&<>"'`]/g, (character) => ESCAPES[character] ?? "");
}
