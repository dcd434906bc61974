import { html, type Part } from "./html.ts";

/**
 * Text that strangers wrote (A-APP-05): what a reader could not see, or would see in another place than it stands, is shown as
 * the escape that JSON has for it; words that mix the letters of several scripts are marked.
 */

/**
 * Runs of controls, marks of direction, invisible characters, blanks other than the blank, fillers, what no font has, and lone
 * surrogates. The Braille blank and the fillers of Hangul count as letters to Unicode and look like nothing.
 */
const UNSEEN_RUN = /(?:(?! )[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800\u3164\uffa0])+/gu;

/** Letters and their marks; a dot or dash ends a word, so that each label of a host name is judged alone. */
const WORD = /[\p{L}\p{N}\p{M}_]+/gu;

/** Scripts whose letters look like those of Latin or of each other. Others are told apart by eye. */
const LOOKALIKE_SCRIPTS: readonly (readonly [string, RegExp])[] = [
  ["Latin", /\p{Script=Latin}/u],
  ["Cyrillic", /\p{Script=Cyrillic}/u],
  ["Greek", /\p{Script=Greek}/u],
  ["Armenian", /\p{Script=Armenian}/u],
  ["Cherokee", /\p{Script=Cherokee}/u],
  ["Coptic", /\p{Script=Coptic}/u],
  ["Lisu", /\p{Script=Lisu}/u],
  ["Georgian", /\p{Script=Georgian}/u],
];

/** What was found in a text that its reader must know of. */
export interface Alarms {
  unseen: number;
  lookalikes: number;
}

/** Foreign text, whole, in one line of thought. @param alarms is added to */
export function foreign(text: string, alarms: Alarms = { unseen: 0, lookalikes: 0 }): Part {
  return html`<bdi class="foreign">${marked(text, alarms)}</bdi>`;
}

/** The same for the JSON text of a string, in which our escapes stand for what they replace. */
export function foreignString(text: string, alarms: Alarms): Part {
  return html`<bdi class="foreign">${marked(JSON.stringify(text), alarms)}</bdi>`;
}

/** A short word about what was found; nothing where nothing was. */
export function alarmed({ unseen, lookalikes }: Alarms): Part {
  if (unseen === 0 && lookalikes === 0) return undefined;
  return html`<p class="alarm" role="note">
    <strong>Look twice.</strong> ${
      unseen > 0 &&
      `Characters that cannot be seen or that change the order of reading: ${unseen}, each shown as \\u and its number. `
    }${lookalikes > 0 && `Words with letters that look like others: ${lookalikes}, each marked.`}
  </p>`;
}

function marked(text: string, alarms: Alarms): Part {
  const parts: Part[] = [];
  let at = 0;
  for (const found of text.matchAll(UNSEEN_RUN)) {
    parts.push(...words(text.slice(at, found.index), alarms));
    parts.push(html`<mark class="unseen" title="cannot be seen">${escapesOf(found[0])}</mark>`);
    alarms.unseen += [...found[0]].length;
    at = found.index + found[0].length;
  }
  parts.push(...words(text.slice(at), alarms));
  return parts;
}

function escapesOf(text: string): string {
  let escapes = "";
  for (let at = 0; at < text.length; at++) escapes += `\\u${text.charCodeAt(at).toString(16).padStart(4, "0")}`;
  return escapes;
}

function words(text: string, alarms: Alarms): Part[] {
  // Nearly all text, and nothing in it looks like anything else.
  if (/^[\x20-\x7e]*$/.test(text)) return [text];
  const parts: Part[] = [];
  let at = 0;
  for (const found of text.matchAll(WORD)) {
    const why = lookalike(found[0]);
    if (why === undefined) continue;
    parts.push(text.slice(at, found.index));
    parts.push(html`<mark class="lookalike" title="${why}">${found[0]}</mark>`);
    alarms.lookalikes += 1;
    at = found.index + found[0].length;
  }
  parts.push(text.slice(at));
  return parts;
}

/**
 * Why a word may be taken for another: letters of several scripts in it, letters in disguise (fullwidth, mathematical), or all
 * of it in a script that can spell Latin words.
 *
 * @returns undefined for one that is as it looks
 */
export function lookalike(word: string): string | undefined {
  if (/^[\x20-\x7e]*$/.test(word)) return undefined;
  for (const character of word)
    if (character > "\x7f" && /^[\x21-\x7e]+$/.test(character.normalize("NFKC"))) return "letters in disguise";
  const scripts = LOOKALIKE_SCRIPTS.filter(([, letters]) => letters.test(word)).map(([name]) => name);
  if (scripts.length > 1) return `${scripts.join(" and ")} letters in one word`;
  return scripts[0] !== undefined && LATIN_TWINS.test(word) ? `all ${scripts[0]} letters` : undefined;
}

/** Words made only of letters that have a twin in Latin: `раура` is no `paypa`. Ordinary words of these languages have others too. */
const LATIN_TWINS = /^[асеорхуѕіјһԁԛԝӏАВЕКМНОРСТУХЅІЈԚԜӀαοριυνκτΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսոհ0-9_]+$/u;
