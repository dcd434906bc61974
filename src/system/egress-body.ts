import type { Dispatcher } from "undici";

/** Bytes that may wait for whoever reads them; beyond, their sender is held back. */
const HIGH_WATER_BYTES = 64 * 1024;

/** The body of an answer as it comes, for one reader. */
export interface FlowingBody extends AsyncIterable<Uint8Array> {
  [Symbol.asyncIterator](): FlowingBytes;
  /** Nobody reads any more: what is on its way is stopped. */
  destroy(): void;
}

/** @see FlowingBody; `next` rejects where the body broke off */
export type FlowingBytes = AsyncIterator<Uint8Array, unknown>;

type Turn = IteratorResult<Uint8Array, unknown>;
const OVER: Turn = { done: true, value: undefined };

/**
 * What an answer's bytes are put into as they come, and read out of. A `Readable` would do; it costs more than the rest of a
 * relayed call's way (performance.md).
 */
export class ReceivedBody implements FlowingBody, AsyncIterator<Uint8Array, unknown> {
  readonly #chunks: Uint8Array[] = [];
  #waiting = 0;
  #isOver = false;
  #failure: Error | undefined;
  #reader: { resolve: (turn: Turn) => void; reject: (error: Error) => void } | undefined;
  readonly #sender: Pick<Dispatcher.DispatchController, "pause" | "resume" | "paused" | "abort">;
  readonly #whenOver: () => void;

  /** @param whenOver called once: nothing more comes */
  constructor(
    sender: Pick<Dispatcher.DispatchController, "pause" | "resume" | "paused" | "abort">,
    whenOver: () => void,
  ) {
    this.#sender = sender;
    this.#whenOver = whenOver;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Turn> {
    const value = this.#chunks.shift();
    if (value !== undefined) {
      this.#waiting -= value.byteLength;
      if (this.#waiting < HIGH_WATER_BYTES && this.#sender.paused) this.#sender.resume();
      return Promise.resolve({ done: false, value });
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#isOver) return Promise.resolve(OVER);
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  /** Of a loop that is left early. */
  return(): Promise<Turn> {
    this.destroy();
    return Promise.resolve(OVER);
  }

  push(chunk: Uint8Array): void {
    if (this.#isOver) return;
    const reader = this.#reader;
    if (reader !== undefined) {
      this.#reader = undefined;
      reader.resolve({ done: false, value: chunk });
      return;
    }
    this.#chunks.push(chunk);
    this.#waiting += chunk.byteLength;
    if (this.#waiting >= HIGH_WATER_BYTES) this.#sender.pause();
  }

  /** @param failure where it broke off; what came before can still be read */
  end(failure?: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#failure = failure;
    const reader = this.#reader;
    this.#reader = undefined;
    if (failure === undefined) reader?.resolve(OVER);
    else reader?.reject(failure);
    this.#whenOver();
  }

  destroy(): void {
    this.#chunks.length = 0;
    this.#waiting = 0;
    if (this.#isOver) return;
    this.end();
    this.#sender.abort(new Error("nobody reads this answer any more"));
  }
}
