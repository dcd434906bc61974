import { randomBytes } from "node:crypto";
import pg from "pg";
import type { LeaseFacts, LeaseHandle, Minted, MintOrder, Upstream } from "../../../src/broker/provider.ts";
import { createPostgresProvider } from "../../../src/broker/providers/postgres.ts";
import { postgresSettings, type PostgresSettings } from "../../../src/broker/providers/postgres-settings.ts";
import type { SecretText } from "../../../src/broker/secret-text.ts";
import { ulid } from "../../../src/system/random.ts";
import { testDatabase, type Cleanup, type TestDatabase } from "../../support/database.ts";

/** Not reached for by this provider. */
export const NO_UPSTREAM = {} as Upstream;

/** A secret as the vault opens it. */
export function secretText(text: string): SecretText {
  return { use: (fn) => fn(text) };
}

/** Facts of a fresh lease. */
export function leaseFacts(changes: Partial<LeaseFacts> = {}): LeaseFacts {
  return {
    id: `lease_${ulid(Date.now())}`,
    resource: "orders-db",
    agent: "triage-bot",
    owner: "sam@acme.example",
    path: ["triage-bot"],
    sub: "okta|00u1",
    email: "dana@acme.example",
    txn: ulid(Date.now()),
    jti: ulid(Date.now()),
    ...changes,
  };
}

/** A database with a schema `app`, a group that may read it, and a login that may make roles. */
export interface Stage {
  readonly database: TestDatabase;
  readonly group: string;
  /** The login that makes roles: CREATEROLE, and no superuser. */
  readonly maker: { readonly username: string; readonly password: string };
  readonly settings: PostgresSettings;
  /** Settings with something else in them. */
  settingsWith(changes: Record<string, unknown>): PostgresSettings;
  order(changes?: Partial<MintOrder<PostgresSettings>>): MintOrder<PostgresSettings>;
  ended(order: MintOrder<PostgresSettings>, minted?: Minted): LeaseHandle<PostgresSettings>;
  /** A session with a vended credential. It is closed after the test. */
  login(minted: Minted, database?: string): Promise<pg.Client>;
  roleExists(name: string): Promise<boolean>;
}

export const provider = createPostgresProvider();

/** Where the test server is. */
export function placeOf(url: string): {
  host: string;
  port: number;
  database: string;
  username: string;
  password: string;
} {
  const { host, port, database = "", user = "", password } = new pg.Client({ connectionString: url });
  return { host, port, database, username: user, password: password as string };
}

export async function stage(t: Cleanup, given?: TestDatabase): Promise<Stage> {
  // Cleaned up first to last, and the database's own comes with it: ours must be first.
  const cleanups: (() => Promise<void>)[] = [];
  t.after(async () => {
    for (const clean of cleanups) await clean();
  });
  const database = given ?? (await testDatabase(t));
  const tag = randomBytes(5).toString("hex");
  const group = `readers_${tag}`;
  const maker = { username: `maker_${tag}`, password: `CANARY-${randomBytes(12).toString("hex")}` };
  await database.admin(`
    create schema app;
    create table app.orders (id int primary key, note text);
    insert into app.orders values (1, 'first');
    create role ${group} nologin;
    grant usage on schema app to ${group};
    grant select on app.orders to ${group};
    create role ${maker.username} login createrole password '${maker.password}';
    grant ${group} to ${maker.username} with admin option;
    grant usage on schema app to ${maker.username} with grant option;
    grant insert on app.orders to ${maker.username} with grant option;
  `);
  const settingsWith = (changes: Record<string, unknown>): PostgresSettings => {
    const { host, port, database: name } = placeOf(database.url);
    return postgresSettings.parse({ host, port, database: name, secret: "orders-maker", roles: [group], ...changes });
  };
  const settings = settingsWith({});
  const secrets = new Map([["orders-maker", secretText(JSON.stringify(maker))]]);
  const clients: pg.Client[] = [];
  cleanups.push(async () => {
    for (const client of clients) await client.end().catch(() => {});
    // Roles belong to the whole server, which other tests use.
    const roles = await database.admin<{ rolname: string }>("select rolname from pg_roles where rolname like $1", [
      `%${tag}`,
    ]);
    for (const { rolname } of roles) await database.admin(`drop owned by ${rolname} cascade`);
    for (const { rolname } of roles) await database.admin(`drop role ${rolname}`);
  });
  return {
    database,
    group,
    maker,
    settings,
    settingsWith,
    order(changes = {}) {
      const issuedAt = Math.floor(Date.now() / 1000);
      return {
        settings,
        lease: leaseFacts(),
        secrets,
        policies: [],
        issuedAt,
        endsAt: issuedAt + 55,
        upstream: NO_UPSTREAM,
        ...changes,
      };
    },
    ended: (order, minted) => ({ ...order, handle: minted?.handle }),
    async login(minted, name) {
      const { host, port, database: usual, username, password } = minted.credential;
      const client = new pg.Client({
        host,
        port,
        database: name ?? usual,
        user: username,
        password,
      } as pg.ClientConfig);
      client.on("error", () => {});
      clients.push(client);
      await client.connect();
      return client;
    },
    roleExists: async (name) => (await database.admin("select 1 from pg_roles where rolname = $1", [name])).length > 0,
  };
}
