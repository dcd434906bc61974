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
