import { listen, type Listener } from "../db/notify.ts";
import type { DatabaseOptions } from "../db/database.ts";
import type { Keys } from "../keys/keys.ts";
import type { Registry } from "../registry/registry.ts";
import type { Lifecycle } from "../system/lifecycle.ts";
import type { Log } from "../system/log.ts";

/** Repeats work until the shutdown; one at a time, and a failure is the next round's to mend. */
export function every(
  ms: number,
  name: string,
  at: { lifecycle: Lifecycle; log: Log; work: () => Promise<unknown> },
): void {
  let running: Promise<void> | undefined;
  const timer = setInterval(() => {
    running ??= at
      .work()
      .then(() => {})
      .catch((err: unknown) => at.log.warn("background_failed", { name, err }))
      .finally(() => {
        running = undefined;
      });
  }, ms);
  timer.unref();
  at.lifecycle.onStop("background", name, async () => {
    clearInterval(timer);
    await running;
  });
}

/** What other replicas announce: a hint to read again. The gate compares versions whether it was heard or not. */
export function heedNotices(
  options: DatabaseOptions,
  at: { registry: Registry; keys: Keys; lifecycle: Lifecycle; log: Log },
): Listener {
  const { registry, keys, lifecycle, log } = at;
  const again = (name: string, work: Promise<void>): void => {
    work.catch((err: unknown) => log.warn("background_failed", { name, err }));
  };
  const listener = listen(options, ["ephor_trust", keys.channel], (channel) => {
    if (channel !== keys.channel) again("trust", registry.catchUp());
    if (channel !== "ephor_trust") again("keys", keys.reload());
  });
  lifecycle.onStop("background", "notices", listener.close);
  return listener;
}
