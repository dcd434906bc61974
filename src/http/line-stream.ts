import type { Clock } from "../system/clock.ts";

/** How often it is looked whether a client that was given a line took it, in milliseconds. */
const LOOK_MS = 1_000;

/** A client that may not leave lines unread for ever. */
export interface Impatience {
  /** So long may one lie here, in milliseconds. */
  readonly unreadMs: number;
  readonly clock: Pick<Clock, "monotonicMs">;
  /** Ends the connection. */
  readonly cut: () => void;
}

/**
 * Pulls lines as the client reads them, and stops asking when it goes: one line lies here, and what the socket took before it
 * said that it is full. How much there is to tell is no matter; a client that does not read costs no more than that.
 */
export function lineStream(lines: AsyncIterable<string>, impatience?: Impatience): ReadableStream<Uint8Array> {
  const iterator = lines[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  let watch: NodeJS.Timeout | undefined;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      clearInterval(watch);
      const next = await iterator.next();
      if (next.done === true) return controller.close();
      controller.enqueue(encoder.encode(next.value));
      // Who waited for it has it already.
      if (impatience !== undefined && (controller.desiredSize ?? 0) <= 0) watch = watchOver(impatience);
    },
    async cancel() {
      clearInterval(watch);
      await iterator.return?.();
    },
  });
}

/** Ends lines that nobody will read. Begun first: what never began would not let go of what it holds. */
export async function dropLines(lines: AsyncIterable<string>): Promise<void> {
  const iterator = lines[Symbol.asyncIterator]();
  await iterator.next().catch(() => {});
  await iterator.return?.();
}

function watchOver({ unreadMs, clock, cut }: Impatience): NodeJS.Timeout {
  const sinceMs = clock.monotonicMs();
  const watch = setInterval(() => {
    if (clock.monotonicMs() - sinceMs < unreadMs) return;
    clearInterval(watch);
    cut();
  }, LOOK_MS);
  watch.unref();
  return watch;
}
