import type { Db } from "../db/database.ts";
import { DecryptError } from "./decrypt-error.ts";
import type { Envelope, Sealed } from "./envelope.ts";
import type { Place } from "./place.ts";

/** Rows that are rewrapped by one statement, so that it ends well within its timeout and holds its locks briefly. */
const BATCH_ROWS = 50;

/** A column of sealed values. Each room that has one describes it, and nobody else knows its table. */
export interface SealedColumn {
  /** What people call what lies there: `secret`, `key`. */
  readonly sort: string;
  /** Schema and name. */
  readonly table: string;
  readonly column: string;
  /** Expression of the key-encryption key's id, where the table has it beside the value. */
  readonly kek?: string;
  /** Expression of the row's key as one text, unique and never changed. */
  readonly id: string;
  /** Expressions of what else `place` and `label` need, by name. */
  readonly facts: Readonly<Record<string, string>>;
  place(row: SealedRow): Place;
  /** Its name for people. */
  label(row: SealedRow): string;
}

/** A row as {@link SealedColumn} describes it. */
export interface SealedRow {
  readonly id: string;
  readonly facts: Readonly<Record<string, string | number>>;
}

/** One value, by name; never what it holds. */
export interface SealedName {
  readonly sort: string;
  readonly name: string;
}

/** How far a rewrap came. */
export interface Rewrapped {
  /** Values that this call put under the present key. */
  readonly rewrapped: number;
  /** Values that were under it before. */
  readonly already: number;
  /** Values that are under another key still, `failed` ones included: another call goes on. */
  readonly remaining: number;
  /** Those that do not open under any key we hold, or not in their place. */
  readonly failed: readonly SealedName[];
}

/** A row to be replaced. */
interface Replacement {
  readonly row_id: string;
  readonly was: unknown;
  readonly becomes: Sealed;
}

/**
 * Puts every data key under the present key-encryption key, without opening a value. It may be stopped at any moment, and run
 * again by any replica, while others read and write: each row is replaced only if it still is what was read.
 *
 * @param budgetMs real milliseconds after which it stops between two batches
 */
export async function rewrapAll(
  { db, envelope }: { db: Db; envelope: Envelope },
  columns: readonly SealedColumn[],
  budgetMs: number,
): Promise<Rewrapped> {
  const deadline = performance.now() + budgetMs;
  const failed: SealedName[] = [];
  let rewrapped = 0;
  let already = 0;
  for (const column of columns) already += await count(db, column, { kek: envelope.kekId, isUnder: true });
  for (const column of columns) {
    let after = "";
    while (performance.now() < deadline) {
      const rows = await underOthers(db, column, { kek: envelope.kekId, after });
      if (rows.length === 0) break;
      const { replacements, unopened } = await rewrapRows(envelope, column, rows);
      failed.push(...unopened);
      rewrapped += await replace(db, column, replacements);
      after = rows.at(-1)?.id ?? after;
    }
  }
  let remaining = 0;
  for (const column of columns) remaining += await count(db, column, { kek: envelope.kekId, isUnder: false });
  return { rewrapped, already, remaining, failed };
}

/** @throws {TemporarilyUnavailableError} when a key cannot be asked: then nothing is said of the values */
async function rewrapRows(
  envelope: Envelope,
  column: SealedColumn,
  rows: readonly (SealedRow & { sealed: unknown })[],
): Promise<{ replacements: readonly Replacement[]; unopened: readonly SealedName[] }> {
  const replacements: Replacement[] = [];
  const unopened: SealedName[] = [];
  for (const row of rows) {
    try {
      const becomes = await envelope.rewrap(row.sealed, column.place(row));
      replacements.push({ row_id: row.id, was: row.sealed, becomes });
    } catch (error) {
      if (!(error instanceof DecryptError)) throw error;
      unopened.push({ sort: column.sort, name: column.label(row) });
    }
  }
  return { replacements, unopened };
}

/**
 * Values that none of the given keys wraps: they will not open. Looked for at the start, so that a key that was taken away too
 * early is told of before somebody needs the value.
 *
 * @param keks ids
 */
export async function sealedUnderOthers(
  db: Db,
  columns: readonly SealedColumn[],
  keks: readonly string[],
): Promise<{ readonly count: number; readonly names: readonly SealedName[] }> {
  const names: SealedName[] = [];
  let all = 0;
  for (const column of columns) {
    const rows = await db.query<SealedRow & { count: number }>(
      `select ${selected(column)}, count(*) over () as count from ${column.table}
       where ${column.column} is not null and coalesce(${kekOf(column)}, '') <> all($1::text[])
       order by ${column.id} collate "C" limit 5`,
      [keks],
    );
    all += rows[0]?.count ?? 0;
    names.push(...rows.map((row) => ({ sort: column.sort, name: column.label(row) })));
  }
  return { count: all, names };
}

/** In the order of the key's bytes, which no locale changes between two batches. */
async function underOthers(
  db: Db,
  column: SealedColumn,
  { kek, after }: { kek: string; after: string },
): Promise<(SealedRow & { sealed: unknown })[]> {
  return db.query(
    `select ${selected(column)}, ${column.column} as sealed from ${column.table}
     where ${kekOf(column)} is distinct from $1 and ${column.column} is not null and ${column.id} > $2 collate "C"
     order by ${column.id} collate "C" limit ${BATCH_ROWS}`,
    [kek, after],
  );
}

async function replace(db: Db, column: SealedColumn, replacements: readonly Replacement[]): Promise<number> {
  if (replacements.length === 0) return 0;
  const done = await db.query(
    `update ${column.table} set ${column.column} = r.becomes
     from jsonb_to_recordset($1::jsonb) as r(row_id text, was jsonb, becomes jsonb)
     where ${column.id} = r.row_id and ${column.column} = r.was returning 1`,
    [JSON.stringify(replacements)],
  );
  return done.length;
}

async function count(db: Db, column: SealedColumn, at: { kek: string; isUnder: boolean }): Promise<number> {
  const [row] = await db.query<{ count: number }>(
    `select count(*) as count from ${column.table}
     where ${column.column} is not null and (${kekOf(column)} is not distinct from $1) = $2`,
    [at.kek, at.isUnder],
  );
  return row?.count ?? 0;
}

function kekOf({ kek, column }: SealedColumn): string {
  return kek ?? `${column}->>'kek'`;
}

function selected({ id, facts }: SealedColumn): string {
  const members = Object.entries(facts).map(([name, expression]) => `'${name}', ${expression}`);
  return `${id} as id, jsonb_build_object(${members.join(", ")}) as facts`;
}
