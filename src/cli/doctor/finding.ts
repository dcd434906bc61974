/** What one look found. */
export interface Finding {
  readonly subject: string;
  readonly state: "ok" | "note" | "wrong";
  readonly detail: string;
  /** What to do, where something is to be done. */
  readonly mend?: string;
}
