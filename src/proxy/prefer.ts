/**
 * Seconds that a caller waits, by `Prefer: wait=N`.
 *
 * @param prefer the header's text; undefined where it is not there
 * @see RFC 7240 §4.3; of a preference that stands there twice the first counts (§2)
 */
export function waitPreferred(prefer: string | undefined): number | undefined {
  if (prefer === undefined) return undefined;
  const wait = preferencesOf(prefer).find(isWait);
  const seconds = wait && /^wait\s*=\s*"?(\d{1,9})"?\s*(?:;|$)/i.exec(wait)?.[1];
  return seconds === undefined || Number(seconds) === 0 ? undefined : Number(seconds);
}

/** `Prefer` without how long is waited, which says nothing of what is to be done; undefined where that is all. */
export function preferredBut(prefer: string): string | undefined {
  // Only what is that to every reader: one who splits at commas alone finds other preferences in an unclosed quote.
  const rest = preferencesOf(prefer).filter((one) => !/^wait\s*=\s*(?:\d{1,9}|"\d{1,9}")$/i.test(one));
  return rest.length === 0 ? undefined : rest.join(", ");
}

function preferencesOf(prefer: string): string[] {
  return (prefer.match(/(?:[^,"]|"(?:[^"\\]|\\.)*"?)+/g) ?? []).map((one) => one.trim()).filter((one) => one !== "");
}

function isWait(preference: string): boolean {
  return /^wait\s*(?:[=;]|$)/i.test(preference);
}
