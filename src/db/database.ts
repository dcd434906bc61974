/**
 * The room `db`: how we reach PostgreSQL. It owns connections, migrations, roles, notifications and group commit; it
 * knows no table's meaning. Rooms from `audit` upwards may use it; `http` never does.
 */
import { drizzle, type NodePgDatabase } from "drizzle-orm/node-postgres";
import pg from "pg";
import { DatabaseUnreachableError, toDatabaseError } from "./errors.ts";
import { createPresence, type Presence } from "./presence.ts";

/** Limits of the pool, each with its reason. */
const LIMITS = {
  /** Ordinary queries; the gate's lanes and the kill have connections of their own. */
  poolConnections: 8,
  /** A request that needs the database answers 503 within 2 s when it is away (A-OPS-01). */
  connectTimeoutMs: 1_500,
  statementTimeoutMs: 5_000,
  lockTimeoutMs: 4_000,
  idleTimeoutMs: 30_000,
};

/** pg gives `bigint` as text; ours are positions, counts and times below 2^53. */
const BIGINT_OID = 20;
const types = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (oid === BIGINT_OID) return Number;
    return pg.types.getTypeParser(oid, format as "text");
  },
};

/** Where the database is, and as whom we work there. */
export interface DatabaseOptions {
  /** PostgreSQL URL of the application's login. */
  readonly url: string;
  /** `ephor_app` where the role could be made, else undefined: then the login's own rights hold. */
  readonly role?: string;
  readonly onError?: (error: Error) => void;
}

/** The database as rooms see it. */
export interface Db {
  /**
   * One parameterised statement.
   *
   * @throws {DatabaseUnreachableError} when the database is away
   * @throws {DatabaseError} when it refuses the statement
   */
  query<T extends object>(sql: string, params?: readonly unknown[]): Promise<T[]>;
  /**
   * The same for what is asked at each call: each connection plans it once.
   *
   * @param name of this statement and no other
   */
  prepared<T extends object>(name: string, sql: string, params: readonly unknown[]): Promise<T[]>;
  /**
   * A connection of one's own, connected lazily and again after it broke.
   *
   * @param use.beats for the one connection that says whether the database is there: it is used also when it is not
   * @param use.kept connected from the next beat on and again after it broke, not at the first call: a server may have no
   * connection left by the time that somebody must kill (INV-10)
   */
  dedicated(name: string, use?: { readonly beats?: boolean; readonly kept?: boolean }): DedicatedConnection;
  /** Told by whoever beats. */
  readonly presence: Pick<Presence, "lost" | "back">;
  /** Rows one by one, for exports; ends its transaction when the caller stops. */
  stream<T extends object>(sql: string, params: readonly unknown[], batchRows: number): AsyncGenerator<T[]>;
  readonly drizzle: NodePgDatabase;
  readonly options: DatabaseOptions;
  close(): Promise<void>;
}

/** One connection that one caller uses at a time. */
export interface DedicatedConnection {
  /** A prepared statement; at most one call is in flight. */
  call<T extends object>(name: string, sql: string, params: readonly unknown[]): Promise<T[]>;
  close(): Promise<void>;
}

interface DroppableConnection extends DedicatedConnection {
  /** Ends the connection, whatever is in flight on it; the next call makes another. */
  drop(): void;
  /** Connects, where it is not connected. */
  keep(): void;
}

/** Connects. Nothing is sent before the first query. */
export function openDatabase(options: DatabaseOptions): Db {
  const pool = new pg.Pool({
    ...connectionConfig(options),
    max: LIMITS.poolConnections,
    idleTimeoutMillis: LIMITS.idleTimeoutMs,
    verify: (client: pg.PoolClient, done: (error?: Error) => void) => {
      checkPrimary(client).then(() => done(), done);
    },
  } as pg.PoolConfig);
  pool.on("error", (error) => options.onError?.(error));
  // INVARIANT: no session's end ends the process. The pool listens only to clients that are idle, and a server may end a session
  // between its first answer and its first query. Whoever asks on it then is told so.
  pool.on("connect", (client) => client.on("error", () => {}));
  const dedicatedConnections = new Set<DroppableConnection>();
  const keptConnections = new Set<DroppableConnection>();
  const presence = createPresence();

  async function pooled<T extends object>(query: pg.QueryConfig): Promise<T[]> {
    try {
      return (await presence.whileThere(() => pool.query<T>(query))).rows;
    } catch (error) {
      throw toDatabaseError(error, true);
    }
  }

  return {
    presence: {
      lost() {
        presence.lost();
        // What waits on them waits for nothing; whoever comes after it is back begins with a fresh connection.
        for (const connection of dedicatedConnections) connection.drop();
      },
      back() {
        presence.back();
        for (const connection of keptConnections) connection.keep();
      },
    },
    query: <T extends object>(sql: string, params: readonly unknown[] = []) =>
      pooled<T>({ text: sql, values: [...params] }),
    prepared: <T extends object>(name: string, sql: string, params: readonly unknown[]) =>
      pooled<T>({ name, text: sql, values: [...params] }),
    dedicated(name, use) {
      const connection = dedicatedConnection(options, { name, beats: use?.beats ?? false, presence });
      dedicatedConnections.add(connection);
      if (use?.kept === true) keptConnections.add(connection);
      return connection;
    },
    async *stream<T extends object>(sql: string, params: readonly unknown[], batchRows: number): AsyncGenerator<T[]> {
      const client = await pool.connect().catch((error: unknown) => {
        throw toDatabaseError(error, false);
      });
      // The pool listens only while a client is idle: without this a connection that breaks here would end the process.
      const heard = (error: Error): void => options.onError?.(error);
      client.on("error", heard);
      try {
        await client.query("begin isolation level repeatable read read only");
        await client.query(`declare rows no scroll cursor for ${sql}`, params as unknown[]);
        for (;;) {
          const { rows } = await client.query<T>(`fetch forward ${batchRows} from rows`);
          if (rows.length === 0) break;
          yield rows;
        }
      } catch (error) {
        throw toDatabaseError(error, true);
      } finally {
        const isBroken = await client.query("rollback").then(
          () => false,
          () => true,
        );
        if (!isBroken) client.off("error", heard);
        client.release(isBroken);
      }
    },
    drizzle: drizzle(pool, { casing: "snake_case" }),
    options,
    async close() {
      await Promise.all([...dedicatedConnections].map((connection) => connection.close()));
      await pool.end();
    },
  };
}

/** What every connection of ours is started with. */
export function connectionConfig(options: DatabaseOptions): pg.ClientConfig {
  const settings = [
    ...(options.role ? [`-c role=${options.role}`] : []),
    "-c search_path=ephor",
    "-c synchronous_commit=on",
    // INVARIANT: the gate sees what was committed before it got its lock (READ COMMITTED), whatever the database's default is.
    "-c default_transaction_isolation=read\\ committed",
    `-c statement_timeout=${LIMITS.statementTimeoutMs}`,
    `-c lock_timeout=${LIMITS.lockTimeoutMs}`,
    "-c idle_in_transaction_session_timeout=60000",
    "-c jit=off",
  ];
  return {
    connectionString: options.url,
    connectionTimeoutMillis: LIMITS.connectTimeoutMs,
    // A socket that hangs (a stopped server, a cut network) must not hang its callers.
    query_timeout: LIMITS.statementTimeoutMs + 1_000,
    keepAlive: true,
    application_name: "ephor",
    options: settings.join(" "),
    types,
  } as pg.ClientConfig;
}

/** A standby or a read-only server decides nothing (INV-24, A-OPS-02). */
async function checkPrimary(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ standby: boolean; readonly: string }>(
    "select pg_is_in_recovery() as standby, current_setting('default_transaction_read_only') as readonly",
  );
  if (rows[0]?.standby !== false || rows[0].readonly !== "off") {
    throw new DatabaseUnreachableError({ outcomeUnknown: false, sqlState: "25006" });
  }
}

/** A client that connects when it is called or told to, and is thrown away after any error of the connection. */
function dedicatedConnection(
  options: DatabaseOptions,
  { name, beats, presence }: { name: string; beats: boolean; presence: Presence },
): DroppableConnection {
  let client: pg.Client | undefined;
  let connecting: Promise<pg.Client> | undefined;
  let closed = false;

  async function connected(): Promise<pg.Client> {
    if (client) return client;
    connecting ??= connect().finally(() => {
      connecting = undefined;
    });
    return connecting;
  }

  async function connect(): Promise<pg.Client> {
    if (closed) throw new DatabaseUnreachableError({ outcomeUnknown: false });
    const fresh = new pg.Client({ ...connectionConfig(options), application_name: `ephor ${name}` });
    fresh.on("error", (error) => {
      options.onError?.(error);
      if (client === fresh) client = undefined;
    });
    fresh.on("end", () => {
      if (client === fresh) client = undefined;
    });
    try {
      await fresh.connect();
      await checkPrimary(fresh);
    } catch (error) {
      fresh.end().catch(() => {});
      throw toDatabaseError(error, false);
    }
    if (closed) fresh.end().catch(() => {});
    client = closed ? undefined : fresh;
    return fresh;
  }

  function drop(): void {
    client?.end().catch(() => {});
    client = undefined;
  }

  async function send<T extends object>(statement: string, sql: string, params: readonly unknown[]): Promise<T[]> {
    const current = await connected();
    try {
      return (await current.query<T>({ name: statement, text: sql, values: params as unknown[] })).rows;
    } catch (error) {
      const ours = toDatabaseError(error, true);
      if (ours instanceof DatabaseUnreachableError && client === current) drop();
      throw ours;
    }
  }

  return {
    drop,
    keep() {
      // Whoever calls it hears what is wrong; here the next beat tries again.
      if (client === undefined) connected().catch(() => {});
    },
    call<T extends object>(statement: string, sql: string, params: readonly unknown[]): Promise<T[]> {
      const sending = (): Promise<T[]> => send<T>(statement, sql, params);
      return beats ? sending() : presence.whileThere(sending);
    },
    async close() {
      closed = true;
      await connecting?.catch(() => {});
      const current = client;
      client = undefined;
      await current?.end().catch(() => {});
    },
  };
}
