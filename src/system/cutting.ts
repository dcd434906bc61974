/** Says once that something is over. An `AbortSignal` is one too. */
export interface CutSignal {
  readonly aborted: boolean;
  addEventListener(type: "abort", call: () => void): void;
  removeEventListener(type: "abort", call: () => void): void;
}

/** What cuts. An `AbortController` would do; each relayed call has one, and that one costs as much as reading a kilobyte of JSON. */
export class Cutting implements CutSignal {
  #isCut = false;
  #calls: (() => void)[] = [];

  get aborted(): boolean {
    return this.#isCut;
  }

  addEventListener(_type: "abort", call: () => void): void {
    this.#calls.push(call);
  }

  removeEventListener(_type: "abort", call: () => void): void {
    const at = this.#calls.indexOf(call);
    if (at >= 0) this.#calls.splice(at, 1);
  }

  /** The first time, everybody who listens is told, once. */
  abort(): void {
    if (this.#isCut) return;
    this.#isCut = true;
    for (const call of this.#calls.splice(0)) call();
  }
}
