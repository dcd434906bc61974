import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { openDatabase, type Db } from "../../src/db/database.ts";
import { startEmbedded } from "../../src/db/embedded.ts";
import { migrate } from "../../src/db/migrate.ts";
import { APP_ROLE } from "../../src/db/roles.ts";

/** Anything with `after`: a test context, or the module-level hook. */
export interface Cleanup {
  after(fn: () => unknown): void;
}

/** One migrated database of its own on the run's real PostgreSQL. */
export interface TestDatabase {
  /** The owner's URL. */
  readonly url: string;
  /** What the application connects with. */
  readonly db: Db;
  /** One statement as the owner, for looking and for doing damage. */
  admin<T extends object = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<T[]>;
}

const TEMPLATE = "ephor_template";
let serverUrl: Promise<string> | undefined;
let template: Promise<string> | undefined;

/** The run's server: the runner's, else one that this process starts. */
function server(): Promise<string> {
  serverUrl ??= (async () => {
    const given = process.env["EPHOR_TEST_DATABASE_URL"];
    if (given) return given;
    const directory = await mkdtemp(join(tmpdir(), "ephor-test-"));
    const embedded = await startEmbedded({ dataDirectory: directory, durable: false });
    process.once("beforeExit", () => {
      void embedded.stop().then(() => rm(directory, { recursive: true, force: true }));
    });
    return embedded.adminUrl;
  })();
  return serverUrl;
}

/** `url` with another database name. */
export function withDatabase(url: string, name: string): string {
  // Not `new URL`: a socket URL has no host, and WHATWG parsing would refuse to change its path.
  return url.replace(/^(postgres(?:ql)?:\/\/[^/]*\/)[^?]*/, (_, start: string) => `${start}${name}`);
}

/** Makes a database from the migrated template; it is dropped after the test. */
export async function testDatabase(t: Cleanup): Promise<TestDatabase> {
  const base = await server();
  template ??= ensureTemplate(base);
  await template;
  const name = `ephor_t_${randomBytes(6).toString("hex")}`;
  await onServer(base, (client) => client.query(`create database ${name} template ${TEMPLATE}`));
  const url = withDatabase(base, name);
  const db = openDatabase({ url, role: APP_ROLE });
  const pool = new pg.Pool({ connectionString: url, max: 2 });
  pool.on("error", () => {});
  t.after(async () => {
    await db.close();
    await pool.end();
    await onServer(base, (client) => client.query(`drop database if exists ${name} with (force)`));
  });
  return {
    url,
    db,
    async admin<T extends object>(sql: string, params: readonly unknown[] = []) {
      return (await pool.query<T>(sql, params as unknown[])).rows;
    },
  };
}

/** Several test files start at once: the first makes the template, the others find it. */
async function ensureTemplate(base: string): Promise<string> {
  await onServer(base, async (client) => {
    await client.query("select pg_advisory_lock(4202169)");
    const { rows } = await client.query("select 1 from pg_database where datname = $1", [TEMPLATE]);
    if (rows.length === 0) {
      await client.query(`create database ${TEMPLATE}_new`);
      await migrate({ adminUrl: withDatabase(base, `${TEMPLATE}_new`), allowUnsafe: true });
      await client.query(`alter database ${TEMPLATE}_new rename to ${TEMPLATE}`);
    }
    await client.query("select pg_advisory_unlock(4202169)");
  });
  return TEMPLATE;
}

async function onServer(base: string, work: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: base });
  client.on("error", () => {});
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
