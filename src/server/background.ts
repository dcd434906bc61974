import { WAITING_CHANNEL, type Waiting } from "../approvals/waiting.ts";
import { listen, type Listener } from "../db/notify.ts";
import type { Heed } from "../authz/heed.ts";
import type { DatabaseOptions } from "../db/database.ts";
import type { Keys } from "../keys/keys.ts";
import type { Registry } from "../registry/registry.ts";
import type { Lifecycle } from "../system/lifecycle.ts";
import type { Log } from "../system/log.ts";

const KILLED = "ephor_kill";
/** What a listener says after each connection. */
const RECONNECTED = "reconnected";

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

/**
 * What other replicas announce: a hint to read again. The gate compares versions whether it was heard or not, and a beat tells
 * of kills that were not.
 *
 * @param at.killed what else hangs on a kill, once this replica has dropped what it covers
 * @param at.waiting told of approvals that calls may wait for
 */
export function heedNotices(
  options: DatabaseOptions,
  at: {
    registry: Registry;
    keys: Keys;
    heed: Heed;
    killed: () => void;
    waiting: Pick<Waiting, "heard">;
    lifecycle: Lifecycle;
    log: Log;
  },
): Listener {
  const { registry, keys, heed, killed, waiting, lifecycle, log } = at;
  const again = (name: string, work: Promise<void>): void => {
    work.catch((err: unknown) => log.warn("background_failed", { name, err }));
  };
  const listener = listen(options, [KILLED, "ephor_trust", keys.channel, WAITING_CHANNEL], (channel, payload) => {
    // First: somebody waits for it.
    if (channel === KILLED || channel === RECONNECTED) again("kills", heed.catchUp().then(killed));
    if (channel === "ephor_trust" || channel === RECONNECTED) again("trust", registry.catchUp());
    if (channel === keys.channel || channel === RECONNECTED) again("keys", keys.reload());
    if (channel === WAITING_CHANNEL || channel === RECONNECTED) waiting.heard(payload);
  });
  lifecycle.onStop("background", "notices", listener.close);
  return listener;
}
