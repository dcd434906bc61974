import { join } from "node:path";
import type { Config } from "../config.ts";
import { openDatabase, type Db } from "../db/database.ts";
import { startEmbedded } from "../db/embedded.ts";
import { migrate } from "../db/migrate.ts";
import type { Log } from "../system/log.ts";

/** The database of this process: opened, migrated, and, where it is the embedded one, started. */
export interface OpenStore {
  readonly db: Db;
  /** Protections that the database does not give, each with its mend. */
  readonly weakened: readonly string[];
  readonly isEmbedded: boolean;
  /** Ends the embedded server where it is ours. */
  stop(): Promise<void>;
}

/**
 * @param options.durable false only for the demonstration and tests
 * @throws {UnsuitableDatabaseError} and what `startEmbedded` throws
 */
export async function openStore(config: Config, log: Log, options: { durable: boolean }): Promise<OpenStore> {
  const embedded =
    config.database === null
      ? await startEmbedded({
          dataDirectory: join(config.dataDirectory, "postgres"),
          durable: options.durable,
          log: (event, fields) =>
            log.info(event, { path: typeof fields["path"] === "string" ? fields["path"] : undefined }),
        })
      : undefined;
  try {
    const url = config.database?.reveal() ?? embedded?.adminUrl ?? "";
    const adminUrl = config.databaseAdmin?.reveal() ?? url;
    const report = await migrate({
      adminUrl,
      ...(adminUrl === url ? {} : { appUrl: url }),
      allowUnsafe: !options.durable,
    });
    const db = openDatabase({
      url,
      ...(report.role === undefined ? {} : { role: report.role }),
      onError: (error) => log.warn("database_connection_lost", { err: error }),
    });
    return {
      db,
      // The embedded server's login is ours alone; that it owns the schema is how it is.
      weakened: embedded ? [] : report.weakened,
      isEmbedded: embedded !== undefined,
      stop: async () => {
        await db.close();
        await embedded?.stop();
      },
    };
  } catch (error) {
    await embedded?.stop();
    throw error;
  }
}
