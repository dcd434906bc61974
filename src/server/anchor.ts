import { relative } from "node:path";
import { lastHead } from "../audit/head-memory.ts";
import type { Config } from "../config.ts";
import type { Db } from "../db/database.ts";
import { openAnchor, type Anchor, type Mark } from "../revocation/anchor.ts";
import type { Log } from "../system/log.ts";

/** The database is older than the anchor: somebody restored a copy that has forgotten kills. The start stops. */
export class OlderDatabaseError extends Error {
  override readonly name = "OlderDatabaseError";
}

/** How the anchor does, and the way to raise it. */
export interface Anchoring {
  /** False: it was missing, or lies where a restore takes it along; `/readyz` and `ephor doctor` tell. */
  readonly isGood: boolean;
  /** To the database's present position, or further. Never throws: a kill stands whatever this disk does. */
  raise(mark: Partial<Mark>): Promise<void>;
}

/**
 * Compares the database with what is kept outside of it.
 *
 * @throws {OlderDatabaseError} kills or events are missing; {AnchorError} the file cannot be used
 */
export async function anchorDatabase(
  config: Config,
  { db, log, isFirstStart }: { db: Db; log: Log; isFirstStart: boolean },
): Promise<Anchoring> {
  if (config.anchor === null) return { isGood: true, raise: async () => {} };
  const { path } = config.anchor;
  const anchor = openAnchor(path);
  const known = await anchor.read();
  const here = await markOf(db);
  const isApart = isOutside(config.dataDirectory, path);
  // Nothing can be said of a database that was there before its anchor: an operator must have said that it is the right one.
  const isKnown = known !== undefined || isFirstStart || config.acceptDatabase;
  if (!isApart)
    log.warn("anchor_beside_database", { note: "the anchor lies in the data folder: a restore takes it along" });
  if (!isKnown)
    log.warn("anchor_missing", { note: "there was none; start once with EPHOR_ACCEPT_DATABASE=true to begin it" });
  const missing = known === undefined ? [] : await missingIn(db, { known, here });
  if (missing.length > 0 && !config.acceptDatabase)
    throw new OlderDatabaseError(
      `anchor: this database is older than ${path} says: ${missing.join(", ")}. It was restored from a copy, or is another one. ` +
        "What was killed since then would live again. Restore a newer copy; or start with EPHOR_ACCEPT_DATABASE=true and repeat the kills.",
    );
  if (missing.length > 0) log.error("older_database_accepted", { note: missing.join(", ") });
  // One that nobody vouched for is not begun: the next start would find it and take this database for the right one.
  if (isKnown) await (missing.length > 0 || known === undefined ? anchor.reset(here) : anchor.raise(here));
  return raising(isKnown ? anchor : onceBegun(anchor), log, isApart && isKnown);
}

/** Raises nothing before another start has begun the anchor. */
function onceBegun(anchor: Anchor): Pick<Anchor, "raise"> {
  return {
    raise: async (mark) => {
      if ((await anchor.read()) !== undefined) await anchor.raise(mark);
    },
  };
}

function raising(anchor: Pick<Anchor, "raise">, log: Log, isWell: boolean): Anchoring {
  return {
    isGood: isWell,
    async raise(mark) {
      // A disk that is full is no reason to stop serving, and none to keep a kill from being answered.
      await anchor.raise(mark).catch((err: unknown) => log.error("anchor_not_written", { err }));
    },
  };
}

async function markOf(db: Db): Promise<Mark> {
  const [gate] = await db.query<{ epoch: number }>("select epoch from ephor.gate where id = 1");
  const head = await lastHead(db);
  return { position: gate?.epoch ?? 0, ...(head && { head: { seq: head.seq, jws: head.jws } }) };
}

/** What the anchor knows and the database does not. */
async function missingIn(db: Db, { known, here }: { known: Mark; here: Mark }): Promise<string[]> {
  const missing: string[] = [];
  if (here.position < known.position) missing.push(`kill position ${here.position}, not ${known.position}`);
  if (known.head !== undefined) {
    const [row] = await db.query<{ jws: string }>("select jws from ephor.heads where seq = $1", [known.head.seq]);
    if (row === undefined) missing.push(`the record ends before head ${known.head.seq}`);
    else if (row.jws !== known.head.jws) missing.push(`the record's head ${known.head.seq} is another one`);
  }
  return missing;
}

function isOutside(folder: string, path: string): boolean {
  return relative(folder, path).startsWith("..");
}
