import type pg from "pg";

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
  const { rows } = await client.query<{ login: string; member: boolean; owner: boolean }>(
    `select l.rolname as login, pg_has_role(l.oid, $1, 'member') as member,
            (l.rolsuper or exists (select 1 from pg_namespace n where n.nspname = 'ephor' and pg_has_role(l.oid, n.nspowner, 'member'))) as owner
     from pg_roles l where l.rolname = coalesce($2, current_user)`,
    [APP_ROLE, login || null],
  );
  const app = rows[0];
  if (!app) return { role: undefined, weakened: [`the application's database login does not exist`] };
  if (!app.member) await client.query(`GRANT ${APP_ROLE} TO "${app.login.replaceAll('"', '""')}"`);
  const weakened = app.owner
    ? [
        `the database login "${app.login}" owns the schema; the application works as ${APP_ROLE}, but code with this login could take the ` +
          "owner's rights back: give `database` a login of its own and the owner's as `database_admin`",
      ]
    : [];
  return { role: APP_ROLE, weakened };
}
