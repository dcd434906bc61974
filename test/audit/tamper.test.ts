import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { keepLedger, ledgerWorld, recompute, written, type LedgerWorld } from "./ledger-world.ts";

/** Rounds: each changes a real database and reads all of it. */
const RUNS = 120;

interface Damage {
  readonly table: "events" | "batches" | "heads" | "streams";
  readonly act: "change" | "delete" | "copy" | "swap";
  /** Which row, which column and which other row, as fractions of how many there are. */
  readonly row: number;
  readonly column: number;
  readonly other: number;
  /** How a value is changed. */
  readonly change: number;
  /** Whether the thief makes the hashes fit again. */
  readonly isRecomputed: boolean;
}

const damage = fc.record<Damage>({
  table: fc.constantFrom("events", "batches", "heads", "streams"),
  act: fc.constantFrom("change", "change", "change", "delete", "copy", "swap"),
  row: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  column: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  other: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  change: fc.nat(1_000),
  isRecomputed: fc.boolean(),
});

/** When a stream was begun is told for the heads' sake only; nothing rests on it. */
const COLUMNS: Record<Damage["table"], readonly string[]> = {
  events: "stream seq id at_ms type decision reason agent sub resource txn jti trace_id body".split(" "),
  batches: "stream first_seq last_seq prev hash at_ms".split(" "),
  heads: "seq at_ms jws".split(" "),
  streams: "id replica seq hash".split(" "),
};
const KEYS: Record<Damage["table"], string> = {
  events: "stream, seq",
  batches: "stream, first_seq",
  heads: "seq",
  streams: "id",
};
const ORDER_COLUMN: Record<Damage["table"], string> = {
  events: "seq",
  batches: "first_seq",
  heads: "seq",
  streams: "id",
};

function changed(value: unknown, by: number): unknown {
  if (value === null) return "x";
  if (Buffer.isBuffer(value)) {
    const bytes = Buffer.from(value);
    const index = by % bytes.length;
    bytes[index] = (bytes[index] ?? 0) ^ (1 << (by % 8));
    return bytes;
  }
  const text = String(value);
  if (/^\d+$/.test(text)) return String(BigInt(text) + (by % 2 === 0 ? 1n : -1n) * BigInt(1 + (by % 7)));
  if (by % 10 === 0) return null;
  if (by % 10 === 1) return `${text} `;
  if (by % 10 === 2) return text.slice(0, -1);
  const index = by % Math.max(1, text.length);
  const character = text.charAt(index) === "a" ? "b" : "a";
  return text.slice(0, index) + character + text.slice(index + 1);
}

/** Does it; false when the database's own constraints refuse, or nothing changed. */
async function apply(world: LedgerWorld, what: Damage): Promise<{ done: boolean; stream?: string }> {
  const { table } = what;
  const rows = await world.admin<Record<string, unknown>>(`select ctid, * from ephor.${table} order by ${KEYS[table]}`);
  const row = rows[Math.floor(what.row * rows.length)] ?? {};
  const other = rows[Math.floor(what.other * rows.length)] ?? {};
  const column = COLUMNS[table][Math.floor(what.column * COLUMNS[table].length)] ?? "";
  const stream = (row["stream"] ?? row["id"]) as string;
  try {
    if (what.act === "delete") await world.admin(`delete from ephor.${table} where ctid = $1`, [row["ctid"]]);
    if (what.act === "change") {
      const value = changed(row[column], what.change);
      if (value === row[column]) return { done: false };
      await world.admin(`update ephor.${table} set ${column} = $2 where ctid = $1`, [row["ctid"], value]);
    }
    if (what.act === "copy") {
      const key = ORDER_COLUMN[table];
      const columns = (await columnsOf(world, table)).map((name) =>
        name !== key ? name : key === "id" ? "id || 'x'" : `${key} + ${1 + (what.change % 40)}`,
      );
      await world.admin(`insert into ephor.${table} select ${columns.join(", ")} from ephor.${table} where ctid = $1`, [
        row["ctid"],
      ]);
    }
    if (what.act === "swap") {
      if (row[column] === other[column] || String(row[column]) === String(other[column])) return { done: false };
      await world.admin(
        `update ephor.${table} t set ${column} = o.${column} from ephor.${table} o
         where (t.ctid = $1 and o.ctid = $2) or (t.ctid = $2 and o.ctid = $1)`,
        [row["ctid"], other["ctid"]],
      );
    }
  } catch {
    return { done: false };
  }
  return { done: true, stream };
}

async function columnsOf(world: LedgerWorld, table: string): Promise<string[]> {
  const rows = await world.admin<{ name: string }>(
    "select attname as name from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum",
    [`ephor.${table}`],
  );
  return rows.map((row) => row.name);
}

test("INV-13 any single change of a row, a batch, a stream's position or a head is found", async (t) => {
  const world = await ledgerWorld(t);
  const outside = await written(world);
  const restore = await keepLedger(world);
  let done = 0;
  await fc.assert(
    fc.asyncProperty(damage, async (what) => {
      const { done: isDone } = await apply(world, what);
      if (!isDone) return;
      done += 1;
      const verdict = await world.verify(outside);
      await restore();
      assert.equal(verdict.ok, false);
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
  assert.ok(done > RUNS / 3, `only ${done} did any damage`);
  assert.equal((await world.verify(outside)).ok, true);
});

test("INV-13 the same with every hash of the stream made to fit again", async (t) => {
  const world = await ledgerWorld(t);
  const outside = await written(world);
  const restore = await keepLedger(world);
  const before = await world.admin("select stream, seq, decision, reason, body from ephor.events order by stream, seq");
  await fc.assert(
    fc.asyncProperty(damage, async (what) => {
      if (what.table !== "events") return;
      const { done: isDone, stream } = await apply(world, what);
      if (!isDone || stream === undefined) return;
      await recompute(world, stream);
      const after = await world.admin(
        "select stream, seq, decision, reason, body from ephor.events order by stream, seq",
      );
      const verdict = await world.verify(outside);
      await restore();
      // Columns that repeat the text are compared with it; whatever else was changed no longer fits the heads.
      assert.equal(verdict.ok, false, JSON.stringify(before) === JSON.stringify(after) ? "a column" : "a text");
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
});
