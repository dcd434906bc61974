import type { AuditVerdict } from "../api/audit.ts";

/** What does not fit, and where: the first bad row of its stream, or the first bad head. */
export interface LedgerProblem {
  readonly stream?: string;
  readonly seq?: number;
  /** The event's id, where one event can be named. */
  readonly id?: string;
  readonly head?: number;
  readonly kind: AuditVerdict["problems"][number]["kind"];
  /** One of our own sentences; quotes nothing of the ledger but ids. */
  readonly detail: string;
}
