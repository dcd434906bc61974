import pg from "pg";
import { connectionConfig, type DatabaseOptions } from "./database.ts";

/** Listens for what other replicas announce. A lost announcement costs latency only: the gate decides by what it reads. */
export interface Listener {
  close(): Promise<void>;
}

/** How long to wait before connecting again, in milliseconds. */
const RECONNECT_MS = 500;

/**
 * Listens on channels and connects again for ever.
 *
 * @param onNotify called for each notification, and once with `channel: "reconnected"` after each (re)connection
 */
export function listen(
  options: DatabaseOptions,
  channels: readonly string[],
  onNotify: (channel: string, payload: string) => void,
): Listener {
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  function again(): void {
    client = undefined;
    if (closed || timer) return;
    timer = setTimeout(() => {
      timer = undefined;
      void connect();
    }, RECONNECT_MS);
    timer.unref();
  }

  async function connect(): Promise<void> {
    const fresh = new pg.Client({ ...connectionConfig(options), application_name: "ephor listen" });
    fresh.on("error", () => {});
    fresh.on("end", () => {
      if (client === fresh) again();
    });
    fresh.on("notification", (message) => onNotify(message.channel, message.payload ?? ""));
    try {
      await fresh.connect();
      for (const channel of channels) await fresh.query(`listen ${pg.escapeIdentifier(channel)}`);
      if (closed) return void (await fresh.end().catch(() => {}));
      client = fresh;
      onNotify("reconnected", "");
    } catch {
      fresh.end().catch(() => {});
      again();
    }
  }

  void connect();
  return {
    async close() {
      closed = true;
      if (timer) clearTimeout(timer);
      const current = client;
      client = undefined;
      await current?.end().catch(() => {});
    },
  };
}
