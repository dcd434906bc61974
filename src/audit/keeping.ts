import type { EventDraft } from "./event.ts";

/** What is kept beside an event and written in the same step: a row of `ephor.recordings`. The ledger only commits to it. */
export interface KeptRow {
  readonly event: string;
  /** The decision of the call. */
  readonly of: string;
  readonly part: "arguments" | "answer";
  readonly txn: string;
  readonly resource: string;
  /** Sealed to the event's id by whoever keeps it. */
  readonly sealed: object;
  /** Epoch seconds. */
  readonly kept_at: number;
  readonly until: number;
}

/** Makes the row, once the event has its id. */
export type Keeping = (event: string) => Promise<KeptRow>;

/** Why nothing is kept beside an event: it could not be sealed, or the database did not take it. */
export type Unkept = "not sealed" | "not stored";

/** The facts of an event beside which nothing could be kept: they commit to nothing, and say so. */
export function factsUnkept({ kept: _kept, ...facts }: EventDraft["facts"], unkept: Unkept): EventDraft["facts"] {
  return { ...facts, unkept };
}
