import { queryEventById } from "../audit/query.ts";
import type { EventRow } from "../audit/event.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { constantTimeEqual } from "../system/hash.ts";
import { DecryptError } from "../vault/decrypt-error.ts";
import type { Envelope } from "../vault/envelope.ts";
import { commitmentTo, recordingPlace, type SealedContent } from "./recording.ts";

/** What is kept beside an event, or was. Times in epoch seconds. */
export interface Recording {
  readonly event: string;
  readonly of: string;
  readonly part: "arguments" | "answer";
  readonly txn: string;
  readonly resource: string;
  readonly keptAt: number;
  readonly until: number;
  /** Absent once it was erased. */
  readonly content: (SealedContent & { readonly commitment: string }) | undefined;
  readonly erased: { readonly at: number; readonly by: string; readonly because: string } | undefined;
}

/** What is kept of calls, for who may read and erase it. */
export interface Recordings {
  /**
   * @returns undefined where nothing is kept beside the event, or not any more
   * @throws {DecryptError} also where it is not what the ledger commits to
   */
  read(event: string): Promise<Recording | undefined>;
  /**
   * Erases what is kept beside the event, of a decision its answer too.
   *
   * @param order.event the ledger's row, written in the same step
   * @returns the events beside which something was erased now; undefined where nothing ever was
   */
  erase(order: {
    readonly of: string;
    readonly by: string;
    readonly because: string;
    readonly event: EventRow;
  }): Promise<readonly string[] | undefined>;
}

interface Row {
  event: string;
  of: string;
  part: "arguments" | "answer";
  txn: string;
  resource: string;
  sealed: unknown;
  kept_at: number;
  until: number;
  erased_at: number | null;
  erased_by: string | null;
  erased_because: string | null;
}

/** @param deps.envelope opens; whoever asks was let in by the route, and is recorded before */
export function createRecordings(deps: { db: Db; envelope: Pick<Envelope, "open">; clock: DatabaseClock }): Recordings {
  const { db, envelope, clock } = deps;

  async function opened(row: Row): Promise<Recording["content"]> {
    if (row.sealed === null) return undefined;
    const place = recordingPlace(row.event);
    const value = await envelope.open(row.sealed, place);
    const content = value.use((bytes) => JSON.parse(Buffer.from(bytes).toString("utf8")) as SealedContent);
    value.wipe();
    const commitment = commitmentTo(content);
    const kept = (await queryEventById(db, row.event))?.body["kept"] as { commitment?: unknown } | undefined;
    const said = typeof kept?.commitment === "string" ? kept.commitment : "";
    if (!constantTimeEqual(commitment, said)) throw new DecryptError(place, "not_authentic");
    return { ...content, commitment };
  }

  return {
    async read(event) {
      const [row] = await db.query<Row>(
        `select event, "of", part, txn, resource, sealed, kept_at, until, erased_at, erased_by, erased_because
         from ephor.recordings where event = $1`,
        [event],
      );
      // Until it is swept nobody reads what should be gone.
      if (row === undefined || row.until <= clock.now()) return undefined;
      const { erased_at: at, erased_by: by, erased_because: because } = row;
      return {
        event: row.event,
        of: row.of,
        part: row.part,
        txn: row.txn,
        resource: row.resource,
        keptAt: row.kept_at,
        until: row.until,
        content: await opened(row),
        erased: at === null ? undefined : { at, by: by ?? "", because: because ?? "" },
      };
    },
    async erase({ of, by, because, event }) {
      const [row] = await db.query<{ r: string[] }>("select ephor.erase_recordings($1, $2, $3, $4, $5::jsonb) as r", [
        Math.floor(clock.nowMs()),
        of,
        by,
        because,
        JSON.stringify(event),
      ]);
      if (row !== undefined && row.r.length > 0) return row.r;
      const [known] = await db.query<{ there: boolean }>(
        `select true as there from ephor.recordings where event = $1 or "of" = $1 limit 1`,
        [of],
      );
      return known === undefined ? undefined : [];
    },
  };
}
