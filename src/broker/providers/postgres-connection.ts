/** The way to the database where roles are made: one verified connection as the login from the vault. */
import pg from "pg";
import { ProviderError, type ProviderProblem } from "../provider-error.ts";
import type { SecretText } from "../secret-text.ts";
import { tlsOf, type PostgresSettings } from "./postgres-settings.ts";

/** Times in ms, each with its reason. */
const LIMITS = {
  /** A mint is waited for by an agent whose lease is already running. */
  connectMs: 5_000,
  /** A little more than what the server itself gives any statement. */
  queryMs: 8_000,
  statementMs: 5_000,
  /** Somebody else works on the same role or holds a lock: better to try again later than to hold the lane. */
  lockMs: 3_000,
  /** A server that lost us gives up our transaction, and the locks with it. */
  idleInTransactionMs: 10_000,
} as const;

/** Which database, and how to be let in. */
export interface Place {
  readonly settings: PostgresSettings;
  readonly secret: SecretText;
  /** Another database of the same server than the one in the settings. */
  readonly database?: string;
}

/**
 * Connects, works, and disconnects. The session has an empty search path and tight timeouts.
 *
 * @throws {ProviderError} with the SQLSTATE or the socket's error code, never with the server's words
 */
export async function withConnection<T>(
  place: Place,
  signal: AbortSignal,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  if (signal.aborted) throw new ProviderError("unreachable");
  const client = place.secret.use((text) => new pg.Client(clientConfig(place, readLogin(text))));
  // Without a listener an error of the socket would end the process; every call reports it as well.
  client.on("error", () => {});
  // What the server has not committed by then it rolls back.
  const stop = (): void => void client.end().catch(() => {});
  signal.addEventListener("abort", stop, { once: true });
  try {
    await client.connect();
    await client.query(
      `set search_path = pg_catalog, pg_temp; set standard_conforming_strings = on;
       set statement_timeout = ${LIMITS.statementMs}; set lock_timeout = ${LIMITS.lockMs};
       set idle_in_transaction_session_timeout = ${LIMITS.idleInTransactionMs}`,
    );
    return await work(client);
  } catch (error) {
    throw toProviderError(error);
  } finally {
    signal.removeEventListener("abort", stop);
    await client.end().catch(() => {});
  }
}

/** One transaction; rolled back on any error. */
export async function inTransaction<T>(client: pg.Client, work: () => Promise<T>): Promise<T> {
  await client.query("begin isolation level read committed read write");
  try {
    const result = await work();
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch(() => {});
    throw error;
  }
}

/** @returns the SQLSTATE of an error of the server; undefined for anything else */
export function sqlStateOf(error: unknown): string | undefined {
  const { code, severity } = (error ?? {}) as { code?: unknown; severity?: unknown };
  return typeof code === "string" && typeof severity === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** Neither message nor cause is kept: they quote statements and values. */
export function toProviderError(error: unknown): ProviderError {
  if (error instanceof ProviderError) return error;
  const state = sqlStateOf(error);
  if (state !== undefined) return new ProviderError(problemOf(state), { code: state });
  const code = (error as { code?: unknown } | null)?.code;
  // ECONNREFUSED, ENOTFOUND, CERT_HAS_EXPIRED: Node's own words.
  return new ProviderError("unreachable", {
    code: typeof code === "string" && /^[A-Z][A-Z0-9_]{2,47}$/.test(code) ? code : undefined,
  });
}

/** Classes of SQLSTATE that pass by themselves: connection, transaction, resources, operator, system, internal. */
const PASSING = /^(?:08|25006|40|53|55|57|58|XX)/;

function problemOf(state: string): ProviderProblem {
  if (state.startsWith("28")) return "credentials_refused";
  return PASSING.test(state) ? "unavailable" : "order_refused";
}

/** @throws {ProviderError} `secret_malformed` */
export function passwordOf(secret: SecretText): string {
  return secret.use((text) => readLogin(text).password);
}

/**
 * The same login, in the same form, with another password.
 *
 * @param password of letters, digits, `-` and `_`
 * @throws {ProviderError} `secret_malformed`
 */
export function withPassword(secret: SecretText, password: string): string {
  return secret.use((text) => {
    readLogin(text);
    if (/^\s*\{/.test(text)) return JSON.stringify({ ...(JSON.parse(text) as object), password });
    return text.replace(LOGIN_OF_URL, (_, start: string) => `${start}${password}@`);
  });
}

/** Not `new URL`: a URL of a unix socket has no host, and its errors quote the input. */
const LOGIN_OF_URL = /^(\s*postgres(?:ql)?:\/\/([^:@/?#]+):)([^@/?#]+)@/;

interface Login {
  readonly username: string;
  readonly password: string;
}

/** Of a URL only the login counts: the place is in the settings, where the operator can read it. */
function readLogin(text: string): Login {
  const login = /^\s*\{/.test(text) ? loginOfJson(text) : loginOfUrl(text.trim());
  if (!login?.username || !login.password) throw new ProviderError("secret_malformed");
  return login;
}

function loginOfJson(text: string): Login | undefined {
  try {
    const { username, password } = JSON.parse(text) as Record<string, unknown>;
    return typeof username === "string" && typeof password === "string" ? { username, password } : undefined;
  } catch {
    return undefined;
  }
}

function loginOfUrl(text: string): Login | undefined {
  const [, , username, password] = LOGIN_OF_URL.exec(text) ?? [];
  if (username === undefined || password === undefined) return undefined;
  try {
    return { username: decodeURIComponent(username), password: decodeURIComponent(password) };
  } catch {
    return undefined;
  }
}

function clientConfig({ settings, database }: Place, { username, password }: Login): pg.ClientConfig {
  const tls = tlsOf(settings);
  return {
    host: settings.host,
    port: settings.port,
    database: database ?? settings.database,
    user: username,
    password,
    // Said outright, or pg would look into the environment (PGSSLMODE).
    ssl: tls ? { rejectUnauthorized: true, ...(tls.ca !== undefined && { ca: tls.ca }) } : false,
    application_name: "ephor",
    connectionTimeoutMillis: LIMITS.connectMs,
    query_timeout: LIMITS.queryMs,
    keepAlive: true,
  };
}
