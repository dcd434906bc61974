import type { UpstreamAnswer } from "../../system/egress-upstreams.ts";

/** Bytes of one answer that may wait for whoever reads it. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;

/** A body that is written on one side and read on the other. */
export interface WrittenBody {
  readonly body: UpstreamAnswer["body"];
  /** @returns false where the reader is too slow, or gone */
  push(chunk: Uint8Array): boolean;
  end(error?: Error): void;
}

/** @param destroyed called once, when the reader wants no more */
export function createWrittenBody(destroyed: () => void): WrittenBody {
  const chunks: Uint8Array[] = [];
  let waiting = 0;
  let isOver = false;
  let failure: Error | undefined;
  let wake = (): void => {};

  async function* read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = chunks.shift();
      if (chunk !== undefined) {
        waiting -= chunk.byteLength;
        yield chunk;
      } else if (failure !== undefined) throw failure;
      else if (isOver) return;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  }
  const end = (error?: Error): void => {
    if (isOver) return;
    isOver = true;
    failure = error;
    wake();
  };
  return {
    body: {
      [Symbol.asyncIterator]: read,
      destroy() {
        if (!isOver) destroyed();
        chunks.length = 0;
        end();
      },
    },
    push(chunk) {
      if (isOver || waiting + chunk.byteLength > MAX_WAITING_BYTES) return false;
      waiting += chunk.byteLength;
      chunks.push(chunk);
      wake();
      return true;
    },
    end,
  };
}
