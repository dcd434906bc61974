import { KEY_HOLDER } from "../core/trust/ephor-resource.ts";
import type { Db } from "../db/database.ts";

/** The row of the key that works; those it replaced keep their hash under other ids, disabled. */
const OPERATOR_ID = KEY_HOLDER;

/** Keys that are compared with the presented one: all of them, each time. Today there is one. */
const MAX_KEYS = 100;

/** A key that works. */
export interface OperatorKeyRow {
  readonly id: string;
  readonly keyHash: string;
}

/** The keys that work now. */
export async function readOperatorKeys(db: Pick<Db, "query">): Promise<OperatorKeyRow[]> {
  return db.query<OperatorKeyRow>(
    `SELECT id, key_hash AS "keyHash" FROM operators WHERE kind = 'key' AND disabled_at IS NULL ORDER BY id LIMIT $1`,
    [MAX_KEYS],
  );
}

/** The hash of the key that works. @returns undefined before the first start */
export async function currentKeyHash(db: Db): Promise<string | undefined> {
  const rows = await db.query<{ keyHash: string }>(`SELECT key_hash AS "keyHash" FROM operators WHERE id = $1`, [
    OPERATOR_ID,
  ]);
  return rows[0]?.keyHash;
}

/** Whether this key worked once and was replaced. */
export async function wasReplaced(db: Db, keyHash: string): Promise<boolean> {
  const rows = await db.query("SELECT 1 AS found FROM operators WHERE key_hash = $1 AND disabled_at IS NOT NULL", [
    keyHash,
  ]);
  return rows.length > 0;
}

/** Makes this the operator key where there is none; of several replicas that do so at once, the first wins. */
export async function insertFirstKey(db: Db, keyHash: string, atMs: number): Promise<void> {
  await db.query(
    "INSERT INTO operators (id, kind, key_hash, created_at) VALUES ($1, 'key', $2, $3) ON CONFLICT (id) DO NOTHING",
    [OPERATOR_ID, keyHash, atMs],
  );
}

/**
 * Another key in the place of `from`, which is kept as disabled.
 *
 * @returns false when `from` was not the key any more; nothing was changed then
 */
export async function replaceKey(
  db: Db,
  { from, to, atMs }: { from: string; to: string; atMs: number },
): Promise<boolean> {
  const rows = await db.query(
    `WITH replaced AS (
       UPDATE operators SET key_hash = $3, created_at = $4 WHERE id = $1 AND key_hash = $2 RETURNING id)
     INSERT INTO operators (id, kind, key_hash, created_at, disabled_at)
     SELECT 'replaced-' || left($2, 16), 'key', $2, $4, $4 FROM replaced RETURNING id`,
    [OPERATOR_ID, from, to, atMs],
  );
  return rows.length > 0;
}
