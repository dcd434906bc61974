import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { openDatabase } from "../../src/db/database.ts";
import { startEmbedded, type Embedded } from "../../src/db/embedded.ts";
import type { Cleanup, TestDatabase } from "./database.ts";

/** A PostgreSQL server of a test's own, that it may stop and start. Not migrated: what uses it does that. */
export interface OwnDatabase extends TestDatabase {
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Ends it as an immediate shutdown does, without a checkpoint; it recovers and runs again by itself. */
  crash(): void;
}

/** @param durable real servers refuse to work on one that is not */
export async function ownDatabase(t: Cleanup, { durable }: { durable: boolean }): Promise<OwnDatabase> {
  const dataDirectory = await mkdtemp(join(tmpdir(), "ephor-own-"));
  let embedded: Embedded | undefined;
  const start = async (): Promise<void> => {
    embedded = await startEmbedded({ dataDirectory, durable });
  };
  const stop = async (): Promise<void> => {
    await embedded?.stop();
    embedded = undefined;
  };
  await start();
  const url = (embedded as unknown as Embedded).adminUrl;
  const db = openDatabase({ url });
  const pool = new pg.Pool({ connectionString: url, max: 2 });
  pool.on("error", () => {});
  t.after(async () => {
    await db.close();
    await pool.end();
    await stop();
    await rm(dataDirectory, { recursive: true, force: true });
  });
  return {
    url,
    db,
    admin: async <T extends object>(sql: string, params: readonly unknown[] = []) =>
      (await pool.query<T>(sql, params as unknown[])).rows,
    start,
    stop,
    crash: () => void process.kill((embedded as Embedded).pid, "SIGQUIT"),
  };
}
