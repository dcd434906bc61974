/** A secret's value, opened for one call and wiped after it. It shows itself to nobody by accident. */
export interface SecretText {
  /** Hands the text to `fn`; nothing that `fn` returns may hold it longer than the call needs. */
  use<T>(fn: (text: string) => T): T;
}

/** Holds a secret that an upstream gave. Printed or turned to JSON it shows nothing. */
export function secretText(text: string): SecretText {
  return { use: (fn) => fn(text) };
}
