import type pg from "pg";
import { UnsuitableDatabaseError } from "./errors.ts";

/** The role that the application works as. */
export const APP_ROLE = "ephor_app";

/** Which protection the database gives; what is missing is said at the start. */
export interface RoleReport {
  /** `ephor_app` where the application can work as it. */
  readonly role: string | undefined;
  /** What is weaker than it could be, and the mend; empty when nothing is. */
  readonly weakened: readonly string[];
}

/**
 * The application may append to the ledger and read it, never change it (INV-14). Run at each start, by the owner, so
 * that a database restored on another server has its rights again.
 */
const GRANTS = `
  GRANT USAGE ON SCHEMA ephor TO ${APP_ROLE};
  GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ephor TO ${APP_ROLE};
  REVOKE UPDATE, DELETE, TRUNCATE ON ephor.events, ephor.batches, ephor.heads FROM ${APP_ROLE};
  REVOKE DELETE, TRUNCATE ON ephor.streams, ephor.kills, ephor.dead_keys, ephor.gate FROM ${APP_ROLE};
  REVOKE INSERT, UPDATE, DELETE ON ephor.migrations FROM ${APP_ROLE};
  REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ephor FROM PUBLIC;
  GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ephor TO ${APP_ROLE};
`;

/**
 * Makes the role and its rights where the owner's login may.
 *
 * @param client connected as the owner, under the migration lock
 * @param appUrl the application's own login, when it has one
 * @throws {UnsuitableDatabaseError} when that login can do nothing here
 */
export async function ensureRoles(client: pg.Client, appUrl?: string): Promise<RoleReport> {
  const { rows } = await client.query<{ may: boolean; there: boolean; self: string }>(
    `select (rolsuper or rolcreaterole) as may, exists (select 1 from pg_roles where rolname = $1) as there, current_user as self
     from pg_roles where rolname = current_user`,
    [APP_ROLE],
  );
  const me = rows[0];
  if (!me?.there && !me?.may) {
    return {
      role: undefined,
      weakened: [
        `the database login may not create the role ${APP_ROLE}, so the application works as the owner and could alter audit rows; ` +
          `run once as a superuser: CREATE ROLE ${APP_ROLE} NOLOGIN; GRANT ${APP_ROLE} TO "${me?.self ?? "the login"}";`,
      ],
    };
  }
  // Roles belong to the whole server: another database's start may be making it right now.
  if (!me.there)
    await client.query(
      `DO $$ BEGIN CREATE ROLE ${APP_ROLE} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`,
    );
  await client.query(GRANTS);
  return await memberReport(client, appUrl);
}

/** Whether the application's login can work as the role, and how far that protects. */
async function memberReport(client: pg.Client, appUrl?: string): Promise<RoleReport> {
  const login = appUrl ? decodeURIComponent(new URL(appUrl).username) : undefined;
  // Since PostgreSQL 16 whoever makes a role is a member that may hand it on and not one that may become it.
  const { rows } = await client.query<{ login: string; member: boolean; owner: boolean }>(
    `select l.rolname as login,
            pg_has_role(l.oid, $1, case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end) as member,
            (l.rolsuper or exists (select 1 from pg_namespace n where n.nspname = 'ephor' and pg_has_role(l.oid, n.nspowner, 'member'))) as owner
     from pg_roles l where l.rolname = coalesce($2, current_user)`,
    [APP_ROLE, login || null],
  );
  const app = rows[0];
  if (!app) return { role: undefined, weakened: [`the application's database login does not exist`] };
  if (!app.member && !(await mayGrant(client, app.login))) return notAMember(app);
  const weakened = app.owner
    ? [
        `the database login "${app.login}" owns the schema; the application works as ${APP_ROLE}, but code with this login could take the ` +
          "owner's rights back: give `database` a login of its own and the owner's as `database_admin`",
      ]
    : [];
  return { role: APP_ROLE, weakened };
}

/** SQLSTATE `insufficient_privilege`. */
const DENIED = "42501";

/** Makes the login a member. @returns false when the owner may not do that: the role is somebody else's */
async function mayGrant(client: pg.Client, login: string): Promise<boolean> {
  try {
    await client.query(`GRANT ${APP_ROLE} TO "${login.replaceAll('"', '""')}"`);
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === DENIED) return false;
    throw error;
  }
}

/**
 * A login that cannot work as the role: the owner works as itself, and another has no rights at all.
 *
 * @throws {UnsuitableDatabaseError} for the latter
 */
function notAMember(app: { login: string; owner: boolean }): RoleReport {
  const mend = `run once as a superuser: GRANT ${APP_ROLE} TO "${app.login}";`;
  if (!app.owner)
    throw new UnsuitableDatabaseError(
      `the database login "${app.login}" is no member of the role ${APP_ROLE}; ${mend}`,
    );
  return {
    role: undefined,
    weakened: [
      `the database login "${app.login}" is no member of the role ${APP_ROLE}, so the application works as the owner and could alter audit rows; ${mend}`,
    ],
  };
}
