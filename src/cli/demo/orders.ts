import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import type { VendedCredential } from "../../api/credentials.ts";
import type { Who } from "../../api/who.ts";
import { createApiClient, type ApiClient } from "../../sdk/client/api.ts";
import { startEmbedded } from "../../db/embedded.ts";
import { onBehalf } from "./cast.ts";
import { ask, type Granted, type Scene } from "./scene.ts";

/** Where the story's orders are kept, and the login that makes roles there. */
export interface OrdersDatabase {
  readonly host: string;
  readonly port: number;
  /** For the vault: a login that may make roles, and is no superuser. */
  readonly login: { readonly username: string; readonly password: string };
}

/** Longest wait for the server to say that a session is over, in milliseconds. */
const THROWN_OUT_MS = 10_000;
/** SQLSTATE of a session that an administrator ended. */
const ADMIN_SHUTDOWN = "57P01";
/** SQLSTATE of a login that is wrong or of nobody. */
const NO_LOGIN = "28P01";

/**
 * Makes a database of orders beside Ephor's own, in the PostgreSQL that Ephor brought: the upstream of the story.
 *
 * @param directory Ephor's data folder, whose server runs
 */
export async function openOrders(directory: string): Promise<OrdersDatabase> {
  const server = await startEmbedded({ dataDirectory: join(directory, "postgres"), durable: false });
  try {
    const login = { username: "orders_maker", password: randomBytes(24).toString("base64url") };
    const { host, port } = await run({ connectionString: server.adminUrl }, [
      `create role orders_maker login createrole password ${pg.escapeLiteral(login.password)}`,
      "create database orders owner orders_maker",
    ]);
    await run({ host, port, database: "orders", user: login.username, password: login.password }, [
      "create table orders (id int primary key, customer text, total numeric)",
      "insert into orders values (4711, 'ACME', 129.90), (4712, 'Globex', 18.50)",
    ]);
    return { host, port, login };
  } finally {
    await server.stop();
  }
}

async function run(config: pg.ClientConfig, statements: readonly string[]): Promise<pg.Client> {
  const client = new pg.Client(config);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
  return client;
}

/** An agent's session in the database, by a role that was made for its task. */
export interface OrdersSession {
  readonly client: pg.Client;
  /** What it logged in with. */
  readonly config: pg.ClientConfig;
  readonly lease: string;
  readonly role: string;
  /** Resolves with the SQLSTATE by which the server ended the session, or undefined when it did not in time. */
  readonly thrownOut: Promise<string | undefined>;
}

/** A role for this task alone. */
export async function borrowRole(scene: Scene, token: Granted): Promise<OrdersSession> {
  const { stage, cast, url, api } = scene;
  stage.step(
    "A database login that exists for this task alone",
    "The vault holds a login that makes roles; no agent ever sees it. triage-bot gets a role of its own, made now.",
  );
  const granted = await ask(scene, "triage-bot", {
    ...onBehalf(String(token.claims["txn"]), "task", await cast.podToken("triage")),
    resource: `${cast.issuer}/credentials/orders-db`,
    scope: "orders-db:vend",
  });
  stage.does("triage-bot", "POST /credentials/orders-db");
  const vended = await createApiClient({ url, bearer: () => granted.token }).post<VendedCredential>(
    "/credentials/orders-db",
    undefined,
  );
  const { host, port, database, username, password } = vended.credential as Record<string, string>;
  const role = username ?? "";
  stage.shows(JSON.stringify({ lease: vended.lease, expires_at: vended.expires_at, username: role }));
  const config = { host, port: Number(port), database, user: role, password };
  const client = new pg.Client(config);
  const thrownOut = endOf(client);
  await client.connect();
  const { rows } = await client.query<{ me: string; orders: number }>(
    "select current_user as me, count(*)::int as orders from orders",
  );
  stage.claim(`a real session reads the orders as ${role}`, rows[0]?.me === role && rows[0].orders === 2);
  const refused = await client.query("delete from orders").then(
    () => undefined,
    (error: unknown) => (error as { code?: string }).code,
  );
  stage.claim("it may read them and nothing else (SQLSTATE 42501)", refused === "42501");
  const { matches } = await api.get<Who>(`/v1/who/${role}`);
  stage.claim(
    `ephor who ${role}: people|ada, by triage-bot`,
    matches[0]?.sub === "people|ada" && matches[0].path?.at(-1) === "triage-bot",
  );
  return { client, config, lease: vended.lease, role, thrownOut };
}

/** The server's own word for why it ended the session. */
function endOf(client: pg.Client): Promise<string | undefined> {
  return new Promise((resolve) => {
    client.on("error", (error: Error & { code?: string }) => {
      if (error.code !== undefined) resolve(error.code);
    });
  });
}

/** After the end of the task: the session is over, though nobody closed it. */
export async function seeThrownOut({ stage, api }: Scene, session: OrdersSession): Promise<void> {
  const { thrownOut, role } = session;
  const state = await inTime(thrownOut);
  stage.claim(`the database threw its session out (SQLSTATE ${ADMIN_SHUTDOWN})`, state === ADMIN_SHUTDOWN);
  await session.client.end().catch(() => {});
  const match = await afterwards(api, role);
  const refused = await run(session.config, []).then(
    () => undefined,
    (error: unknown) => (error as { code?: string }).code,
  );
  stage.claim(`its role is gone: the same login is refused (SQLSTATE ${NO_LOGIN})`, refused === NO_LOGIN);
  stage.claim(
    "who still leads from its name to Ada",
    match?.lease?.because === "task_ended" && match.sub === "people|ada",
  );
}

/** Who is behind the role, asked until Ephor says that it has ended; the session goes a moment before the role does. */
async function afterwards(api: ApiClient, role: string): Promise<Who["matches"][number] | undefined> {
  for (const until = performance.now() + THROWN_OUT_MS; performance.now() < until; await pause(20)) {
    const { matches } = await api.get<Who>(`/v1/who/${role}`);
    if (matches[0]?.lease?.status === "ended") return matches[0];
  }
  return undefined;
}

/** What came in time, or undefined. */
async function inTime<T>(work: Promise<T>): Promise<T | undefined> {
  const late = new AbortController();
  try {
    return await Promise.race([work, pause(THROWN_OUT_MS, undefined, { signal: late.signal })]);
  } finally {
    late.abort();
  }
}
