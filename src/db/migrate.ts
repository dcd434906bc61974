import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/node-postgres";
import { migrate as runMigrations } from "drizzle-orm/node-postgres/migrator";
import pg from "pg";
import { UnsuitableDatabaseError } from "./errors.ts";
import { ensureRoles, type RoleReport } from "./roles.ts";

/** Session advisory lock under which one replica migrates while the others wait. */
const MIGRATION_LOCK = 4202170;
/**
 * How migrations wait for tables that requests are using. Whoever asks for a table after a migration waits behind it, so it asks
 * for a moment only, lets the others through, and asks again: other replicas serve meanwhile (A-OPS-10). In milliseconds.
 */
const PATIENCE = { lockMs: 500, pauseMs: 500, totalMs: 120_000 };
/** A table was not free in time; somebody else's transaction and ours waited for each other. All of the migration was undone. */
const BUSY = new Set(["55P03", "40P01"]);
/** PostgreSQL 14 is the oldest that has what we use (CONTRACT §3). */
const OLDEST_VERSION = 140_000;

/**
 * Brings the schema `ephor` up to date, safely from many replicas at once, and makes the application's role where it may.
 *
 * @param options.adminUrl the login that owns the schema
 * @param options.appUrl the login of the application where it is another one
 * @throws {UnsuitableDatabaseError} when the server is too old, unsafe, a standby, or the schema is not ours
 */
export async function migrate(options: {
  adminUrl: string;
  appUrl?: string;
  allowUnsafe?: boolean;
}): Promise<RoleReport> {
  const client = new pg.Client({
    connectionString: options.adminUrl,
    connectionTimeoutMillis: 10_000,
    application_name: "ephor migrate",
  });
  client.on("error", () => {});
  await client.connect();
  try {
    await checkServer(client, options.allowUnsafe ?? false);
    await client.query("select pg_advisory_lock($1)", [MIGRATION_LOCK]);
    await checkSchema(client);
    await runPatiently(client);
    return await ensureRoles(client, options.appUrl);
  } finally {
    await client.end();
  }
}

/** @throws {UnsuitableDatabaseError} when a table was never free */
async function runPatiently(client: pg.Client): Promise<void> {
  const untilMs = performance.now() + PATIENCE.totalMs;
  await client.query(`set lock_timeout = ${PATIENCE.lockMs}`);
  for (;;) {
    try {
      await runMigrations(drizzle(client), {
        migrationsFolder: migrationsFolder(),
        migrationsSchema: "ephor",
        migrationsTable: "migrations",
      });
      break;
    } catch (error) {
      if (!isBusy(error)) throw error;
      if (performance.now() >= untilMs)
        throw new UnsuitableDatabaseError(
          "a migration got no lock within two minutes, because some long transaction uses its table; nothing was changed: end it " +
            "(pg_stat_activity shows it; often an export or a backup) and start again",
        );
      await pause(PATIENCE.pauseMs);
    }
  }
  await client.query("reset lock_timeout");
}

function isBusy(error: unknown): boolean {
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  return (typeof code === "string" && BUSY.has(code)) || (cause instanceof Error && isBusy(cause));
}

/** `migrations/` beside the package's sources or its build. */
function migrationsFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "migrations", "meta", "_journal.json"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error("the folder `migrations` is missing from this installation");
    folder = parent;
  }
  return join(folder, "migrations");
}

async function checkServer(client: pg.Client, allowUnsafe: boolean): Promise<void> {
  const { rows } = await client.query<{ version: string; fsync: string; full_page_writes: string; standby: boolean }>(
    `select current_setting('server_version_num') as version, current_setting('fsync') as fsync,
            current_setting('full_page_writes') as full_page_writes, pg_is_in_recovery() as standby`,
  );
  const server = rows[0];
  if (!server || Number(server.version) < OLDEST_VERSION) {
    throw new UnsuitableDatabaseError("PostgreSQL 14 or newer is needed; point `database` (DATABASE_URL) at one");
  }
  if (server.standby) {
    throw new UnsuitableDatabaseError("the database is a standby; point `database` (DATABASE_URL) at the primary");
  }
  if (!allowUnsafe && (server.fsync === "off" || server.full_page_writes === "off")) {
    throw new UnsuitableDatabaseError(
      "the server runs with fsync or full_page_writes off, so audit records would not be durable; turn them on",
    );
  }
}

/** A schema `ephor` that we did not make stops the start. */
async function checkSchema(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ there: boolean; ours: boolean; empty: boolean }>(
    `select exists (select 1 from pg_namespace where nspname = 'ephor') as there,
            to_regclass('ephor.migrations') is not null as ours,
            not exists (select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'ephor') as empty`,
  );
  const schema = rows[0];
  if (schema?.there && !schema.ours && !schema.empty) {
    throw new UnsuitableDatabaseError(
      "the database has a schema `ephor` that Ephor did not make; use another database, or rename that schema",
    );
  }
}
