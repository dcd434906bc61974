/**
 * Characters that a terminal or a page obeys or that change how their neighbours look: controls (C0, DEL, C1), line and
 * paragraph separators, marks of direction and other invisible ones (fillers, the Braille blank), lone surrogates. Names, reasons and purposes come from
 * strangers.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gu;

/** Foreign text for people: one line, every unsafe character as `\u{…}`. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/** The same inside JSON text, where `\uXXXX` reads back as the character it stands for; line ends between members stay. */
export function printableJson(json: string): string {
  return json.replace(UNSAFE, (character) =>
    character === "\n"
      ? character
      : Array.from(
          { length: character.length },
          (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`,
        ).join(""),
  );
}
