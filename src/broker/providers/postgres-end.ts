/**
 * The end of a lease's role. The order is what makes it safe: no new session, then no old one, then what it owns and
 * what it was granted, then the role.
 */
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { ProviderError } from "../provider-error.ts";
import { inTransaction, sqlStateOf, withConnection, type Place } from "./postgres-connection.ts";
import { lockRights, roleLock } from "./postgres-role.ts";

/** Limits of one attempt; what is left over the next one does. */
const LIMITS = {
  /** Sessions end within milliseconds, unless the server is very busy. */
  sessionsMs: 8_000,
  lookMs: 25,
  /** A session that was let in just before the lock shows itself a moment later: none must be seen this often in a row. */
  quietLooks: 3,
  /** Databases of one server in which one role left something within a minute. */
  databases: 32,
  /** Transactions that it prepared and left. */
  prepared: 64,
} as const;

/**
 * Ends a role: its sessions are gone and it cannot come back when this resolves. Nothing happens where it never came to
 * be or is gone already.
 *
 * @throws {ProviderError} when something is left; the role can then no longer log in, if the server could be reached
 */
export async function endRole(place: Place, name: string, signal: AbortSignal): Promise<void> {
  await withConnection(place, signal, async (client) => {
    // A mint that is still under way commits or fails first; a second worker waits, and then finds nothing to do.
    // The session's end gives the lock back.
    await client.query("select pg_advisory_lock(hashtextextended($1, 0))", [roleLock(name)]);
    const { rows } = await client.query<{ oid: number; almighty: boolean }>(
      `select r.oid, (select rolsuper from pg_roles where rolname = current_user) as almighty
       from pg_roles r where r.rolname = $1`,
      [name],
    );
    const role = rows[0];
    if (!role) return;
    await client.query(`alter role "${name}" nologin password null connection limit 0`);
    // Whoever may make roles may become a member of one that it made; until then it could not even end its sessions.
    if (!role.almighty) await client.query(`grant "${name}" to current_user`);
    await endSessions(client, role.oid, signal);
    for (const database of await databasesWithRemains(client, name, role.oid)) {
      await withConnection({ ...place, database }, signal, (there) => clear(there, name, place));
    }
    await clear(client, name, place);
    await client.query(`drop role if exists "${name}"`);
  });
}

/** Throws out whoever is logged in as the role, and waits until nobody is. */
async function endSessions(client: pg.Client, oid: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + LIMITS.sessionsMs;
  for (let quiet = 0; ;) {
    // Never within a transaction: there the view does not change from one look to the next.
    const { rows } = await client.query("select pg_terminate_backend(pid) from pg_stat_activity where usesysid = $1", [
      oid,
    ]);
    quiet = rows.length === 0 ? quiet + 1 : 0;
    if (quiet >= LIMITS.quietLooks) return;
    if (performance.now() > deadline) throw new ProviderError("unavailable");
    await pause(LIMITS.lookMs, undefined, { signal });
  }
}

/** The server's other databases in which the role owns something, was granted something or left a prepared transaction. */
async function databasesWithRemains(client: pg.Client, name: string, oid: number): Promise<readonly string[]> {
  const { rows } = await client.query<{ datname: string }>(
    `select d.datname::text from pg_database d
     where d.datname <> current_database() and (
       exists (select 1 from pg_shdepend s where s.dbid = d.oid and s.refclassid = 'pg_authid'::regclass and s.refobjid = $1)
       or exists (select 1 from pg_prepared_xacts p where p.database = d.datname and p.owner = $2))
     order by d.datname limit ${LIMITS.databases}`,
    [oid, name],
  );
  return rows.map((row) => row.datname);
}

/** Removes what the role owns and was granted in one database. */
async function clear(client: pg.Client, name: string, { settings }: Place): Promise<void> {
  await rollbackPrepared(client, name);
  const heir = settings.reassign_to;
  if (heir !== undefined) {
    await inTransaction(client, () => client.query(`reassign owned by "${name}" to ${pg.escapeIdentifier(heir)}`));
  }
  // Without CASCADE: what others built on it is theirs. Then this fails, and the operator sees a lease that does not end.
  await inTransaction(client, async () => {
    await lockRights(client);
    await client.query(`drop owned by "${name}"`);
  });
}

/** A prepared transaction outlives its session, and its locks keep the role from being dropped. */
async function rollbackPrepared(client: pg.Client, name: string): Promise<void> {
  const { rows } = await client.query<{ gid: string }>(
    `select gid from pg_prepared_xacts where owner = $1 and database = current_database() limit ${LIMITS.prepared}`,
    [name],
  );
  for (const { gid } of rows) {
    // Only its owner may; and not within a transaction, so we are the owner for the session.
    await client.query(`set role "${name}"`);
    await client.query(`rollback prepared ${pg.escapeLiteral(gid)}`).catch((error: unknown) => {
      // Undefined object: somebody else has ended it.
      if (sqlStateOf(error) !== "42704") throw error;
    });
    await client.query("reset role");
  }
}
