import type { Db } from "../db/database.ts";
import type { KeyStatus, KeyUse } from "./key-ring.ts";

/** Where replicas tell each other that the keys changed. */
export const KEYS_CHANNEL = "ephor_keys";

/** The row whose presence says that the first keys were made; it holds the nonce secret. */
export const NONCE_ROW = "nonce";

/** A row of `keys`. Times are milliseconds since the epoch. */
export interface KeyRow {
  readonly kid: string;
  readonly use: KeyUse | "nonce";
  readonly algorithm: string;
  readonly status: KeyStatus;
  readonly publicJwk: object | null;
  readonly sealed: unknown;
  readonly createdAt: number;
  readonly activatedAt: number | null;
  readonly retiredAt: number | null;
}

const NEW_ROW = `(kid, "use", algorithm, status, public_jwk, sealed, created_at, activated_at)`;
const NEW_VALUES = `k.kid, k."use", k.algorithm, k.status, k."publicJwk", k.sealed, k."createdAt", k."activatedAt"`;
const AS_ROWS = `jsonb_to_recordset($1::jsonb) AS k(kid text, "use" text, algorithm text, status text,
  "publicJwk" jsonb, sealed jsonb, "createdAt" bigint, "activatedAt" bigint)`;

/** All keys that can still matter: of those that retired before `retiredSinceMs` only record keys do. */
export async function readKeys(db: Db, retiredSinceMs: number): Promise<KeyRow[]> {
  return db.query<KeyRow>(
    `SELECT kid, "use", algorithm, status, public_jwk AS "publicJwk", sealed, created_at AS "createdAt",
            activated_at AS "activatedAt", retired_at AS "retiredAt"
     FROM keys WHERE NOT ("use" <> 'record' AND status = 'retired' AND retired_at < $1)
     ORDER BY created_at, kid`,
    [retiredSinceMs],
  );
}

/** Whether nothing was ever sealed in this database: the first keys are made before anything else is. */
export async function isWithoutKeys(db: Db): Promise<boolean> {
  const rows = await db.query<{ empty: boolean }>("SELECT NOT EXISTS (SELECT 1 FROM keys) AS empty");
  return rows[0]?.empty === true;
}

/**
 * The first keys, from whichever replica comes first. One statement: a second replica waits at the primary key of the
 * nonce row until the first has committed, and then adds nothing.
 *
 * @returns whether these became the keys
 */
export async function insertFirstKeys(
  db: Db,
  { nonce, rows }: { nonce: KeyRow; rows: readonly KeyRow[] },
): Promise<boolean> {
  const made = await db.query(
    `WITH guard AS (
       INSERT INTO keys (kid, "use", algorithm, status, sealed, created_at) VALUES ($2, 'nonce', $3, 'active', $4::jsonb, $5)
       ON CONFLICT (kid) DO NOTHING RETURNING kid)
     INSERT INTO keys ${NEW_ROW} SELECT ${NEW_VALUES} FROM ${AS_ROWS} WHERE EXISTS (SELECT 1 FROM guard) RETURNING kid`,
    [JSON.stringify(rows), nonce.kid, nonce.algorithm, JSON.stringify(nonce.sealed), nonce.createdAt],
  );
  return made.length > 0;
}

/** The row of `house` whose presence says that the identity keys were made. */
const IDENTITY_KEYS_MADE = "identity_keys_made_at";

/**
 * The identity keys of a database that has none yet, from whichever replica comes first; a second one waits at the primary
 * key of the mark until the first has committed, and then adds nothing.
 *
 * @returns whether these became the keys
 */
export async function insertIdentityKeys(db: Db, rows: readonly KeyRow[]): Promise<boolean> {
  const done = await db.query(
    `WITH guard AS (
       INSERT INTO house (name, value) VALUES ('${IDENTITY_KEYS_MADE}', $2) ON CONFLICT (name) DO NOTHING RETURNING name),
     added AS (
       INSERT INTO keys ${NEW_ROW} SELECT ${NEW_VALUES} FROM ${AS_ROWS} WHERE EXISTS (SELECT 1 FROM guard))
     SELECT pg_notify('${KEYS_CHANNEL}', '') FROM guard`,
    [JSON.stringify(rows), new Date(rows[0]?.createdAt ?? 0).toISOString()],
  );
  return done.length > 0;
}

/**
 * One rotation: active → retired, next → active, a new next. One statement, and the row lock of the key that becomes
 * active decides between replicas: the loser finds it no longer `next`, and changes nothing. While it is still `next`,
 * no other rotation of its use can have happened, so the active key is the one that was read with it.
 *
 * @returns whether this call rotated
 */
export async function rotateRows(
  db: Db,
  change: { active: string; activeSealed: unknown; next: string; atMs: number; retiredAtMs: number; successor: KeyRow },
): Promise<boolean> {
  const done = await db.query(
    `WITH promoted AS (
       UPDATE keys SET status = 'active', activated_at = $5 WHERE kid = $2 AND status = 'next' RETURNING kid),
     retired AS (
       UPDATE keys SET status = 'retired', retired_at = $6, sealed = $4::jsonb
       WHERE kid = $3 AND status = 'active' AND EXISTS (SELECT 1 FROM promoted) RETURNING kid),
     added AS (
       INSERT INTO keys ${NEW_ROW} SELECT ${NEW_VALUES} FROM ${AS_ROWS} WHERE EXISTS (SELECT 1 FROM promoted))
     SELECT pg_notify('${KEYS_CHANNEL}', '') FROM promoted`,
    [
      JSON.stringify([change.successor]),
      change.next,
      change.active,
      JSON.stringify(change.activeSealed),
      change.atMs,
      change.retiredAtMs,
    ],
  );
  return done.length > 0;
}

/**
 * Another key in the place of one that never signed.
 *
 * @returns false when the key was no longer `next`
 */
export async function replaceNextRow(db: Db, next: string, successor: KeyRow): Promise<boolean> {
  const done = await db.query(
    `WITH removed AS (DELETE FROM keys WHERE kid = $2 AND status = 'next' RETURNING kid),
     added AS (INSERT INTO keys ${NEW_ROW} SELECT ${NEW_VALUES} FROM ${AS_ROWS} WHERE EXISTS (SELECT 1 FROM removed))
     SELECT pg_notify('${KEYS_CHANNEL}', '') FROM removed`,
    [JSON.stringify([successor]), next],
  );
  return done.length > 0;
}
