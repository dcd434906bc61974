/** A role made for one lease: its name, its password's verifier, what it says about the human, and how it is made. */
import { createHash, createHmac, pbkdf2 } from "node:crypto";
import { promisify } from "node:util";
import pg from "pg";
import type { EpochSeconds } from "../../core/time.ts";
import { randomBytes } from "../../system/random.ts";
import type { LeaseFacts } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import { inTransaction } from "./postgres-connection.ts";
import type { PostgresSettings, Rights } from "./postgres-settings.ts";

/** PostgreSQL cuts longer names. */
const NAME_BYTES = 63;

const LEASE_ID = /^lease_([0-9A-HJKMNP-TV-Z]{26})$/;

/** The server's own default; the password has 256 random bits, so that guessing is not what it must hold against. */
const SCRAM_ITERATIONS = 4096;
const SCRAM_SALT_BYTES = 16;

/** Rights beyond any lease: who has them can make logins, read password files or run programs on the server. */
const ENDLESS_ROLES = ["pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"];

/** From this version on a membership can be had without the right to act as its role. */
const VERSION_WITH_SET_OPTION = 160_000;

/**
 * The role's name, `<prefix>_<agent>_<ulid>`, of a-z, 0-9 and _ only. It follows from the lease alone, so that a crash
 * between mint and record leaves nothing that could not be found again.
 *
 * @throws {ProviderError} `order_refused` for an id that is not a lease's
 */
export function roleName(prefix: string, lease: Pick<LeaseFacts, "id" | "agent">): string {
  const ulid = LEASE_ID.exec(lease.id)?.[1]?.toLowerCase();
  if (ulid === undefined) throw new ProviderError("order_refused");
  const room = NAME_BYTES - prefix.length - ulid.length - 2;
  const agent = lease.agent
    .toLowerCase()
    .replaceAll(/[^a-z0-9]/g, "_")
    .slice(0, room);
  return `${prefix}_${agent}_${ulid}`;
}

/**
 * What the server stores instead of the password. Made here, so that the password itself is never sent to the server
 * and stands in none of its logs.
 *
 * @param password of ASCII letters and digits, which SASLprep leaves as they are
 * @see RFC 5803 §2, RFC 7677
 */
export async function scramVerifier(
  password: string,
  salt: Uint8Array = randomBytes(SCRAM_SALT_BYTES),
): Promise<string> {
  const salted = await promisify(pbkdf2)(password, salt, SCRAM_ITERATIONS, 32, "sha256");
  const clientKey = createHmac("sha256", salted).update("Client Key").digest();
  const serverKey = createHmac("sha256", salted).update("Server Key").digest("base64");
  const storedKey = createHash("sha256").update(clientKey).digest("base64");
  return `SCRAM-SHA-256$${SCRAM_ITERATIONS}:${Buffer.from(salt).toString("base64")}$${storedKey}:${serverKey}`;
}

/** What a role is made from. */
export interface RoleOrder {
  readonly name: string;
  readonly verifier: string;
  readonly settings: PostgresSettings;
  readonly rights: Rights;
  readonly lease: LeaseFacts;
  readonly issuedAt: EpochSeconds;
  readonly endsAt: EpochSeconds;
}

/**
 * Makes the role with all its rights, or nothing.
 *
 * @throws {ProviderError} `cannot_bound` when its rights would let it outlive its lease; else pg's errors
 */
export async function createRole(client: pg.Client, order: RoleOrder): Promise<void> {
  const { name, rights } = order;
  await inTransaction(client, async () => {
    // A worker that ends this lease right now waits for us and then finds the role.
    await client.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", [roleLock(name)]);
    const server = await lookAtServer(client);
    // By its clock the lease is over: it would be born dead.
    if (server.now >= order.endsAt) throw new ProviderError("cannot_bound");
    await client.query(roleSql(order, server.now));
    // In one order everywhere: each membership locks its group until the commit.
    for (const group of [...rights.roles].sort()) {
      const how =
        server.version < VERSION_WITH_SET_OPTION ? "" : ` with inherit true, set ${order.settings.allow_set_role}`;
      await client.query(`grant ${pg.escapeIdentifier(group)} to "${name}"${how}`);
    }
    if (rights.statements.length > 0) await lockRights(client);
    for (const statement of rights.statements) {
      // The extended protocol takes one statement and no more.
      await client.query({
        text: statement.replaceAll("{role}", `"${name}"`),
        queryMode: "extended",
      } as pg.QueryConfig);
    }
    await checkBounded(client, name);
  });
}

/** Name of the lock under which one role is made and ended. */
export function roleLock(name: string): string {
  return `ephor role ${name}`;
}

/**
 * Two transactions that change the rights on one table fail with "tuple concurrently updated": those that may do that
 * wait for each other, until the commit.
 */
export async function lockRights(client: pg.Client): Promise<void> {
  await client.query("select pg_advisory_xact_lock(hashtextextended('ephor rights', 0))");
}

async function lookAtServer(client: pg.Client): Promise<{ version: number; now: EpochSeconds }> {
  const { rows } = await client.query<{ version: number; now: number }>(
    "select current_setting('server_version_num')::int as version, floor(extract(epoch from clock_timestamp()))::float8 as now",
  );
  const [server] = rows;
  if (!server) throw new ProviderError("answer_malformed");
  return server;
}

/** Name, verifier, end, limits, and whose it is. None of this takes parameters: every text is quoted here. */
function roleSql({ name, verifier, settings, lease, issuedAt, endsAt }: RoleOrder, serverNow: EpochSeconds): string {
  // A server whose clock is behind ours would let it live longer than the lease.
  const until = new Date(Math.min(endsAt, serverNow + (endsAt - issuedAt)) * 1000).toISOString();
  return `
    create role "${name}" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls
      connection limit ${settings.connection_limit} password ${pg.escapeLiteral(verifier)} valid until '${until}';
    comment on role "${name}" is ${pg.escapeLiteral(commentOf(lease))};
    alter role "${name}" set application_name = ${pg.escapeLiteral(applicationName(lease))}`;
}

/** What the server's own views and logs show; a client may replace it, which the role's name withstands. */
function applicationName({ agent, email, sub }: LeaseFacts): string {
  const human = email ?? sub.slice(sub.indexOf("|") + 1);
  return `${agent.slice(0, 28)} for ${human}`.replaceAll(/[^A-Za-z0-9@._+| -]/g, ".").slice(0, NAME_BYTES);
}

/** One line of JSON in ASCII, whatever the database's encoding: who, for whom and why. */
function commentOf({ id, agent, path, sub, email, txn, traceId, purpose }: LeaseFacts): string {
  const facts = { ephor: id, agent, path, human: sub, email, txn, trace: traceId, purpose };
  return JSON.stringify(facts).replaceAll(/[\u007f-\uffff]/g, (unit) => {
    return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** A lease that may make logins of its own, or run programs on the server, would not end at its end. */
async function checkBounded(client: pg.Client, name: string): Promise<void> {
  const { rows } = await client.query(
    `select 1 from pg_roles r
     where pg_has_role($1::name, r.oid, 'member')
       and (r.rolsuper or r.rolcreaterole or r.rolreplication or r.rolname = any ($2::name[])) limit 1`,
    [name, ENDLESS_ROLES],
  );
  if (rows.length > 0) throw new ProviderError("cannot_bound");
}
