import { inspect } from "node:util";

/** A text that must not be printed: a connection string with a password, a key. Every way of showing it says `[hidden]`. */
export class HiddenText {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The text itself, for the one place that uses it. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return "[hidden]";
  }

  toJSON(): string {
    return "[hidden]";
  }

  [inspect.custom](): string {
    return "[hidden]";
  }
}
