import { nowSeconds, readMoment } from "../moments.ts";

/** Filters as the command line has them; the names are the API's. */
export interface LedgerFilters {
  readonly since?: string;
  readonly until?: string;
  readonly type?: string;
  readonly decision?: string;
  readonly reason?: string;
  readonly agent?: string;
  readonly sub?: string;
  readonly resource?: string;
  readonly txn?: string;
  readonly jti?: string;
  readonly trace?: string;
}

/** The filters as a query of the API. */
export function queryOf(filters: LedgerFilters): Record<string, string | number | undefined> {
  const { since, until, ...rest } = filters;
  const now = nowSeconds();
  return {
    ...rest,
    ...(since !== undefined && { since: readMoment(since, "--since", now) }),
    ...(until !== undefined && { until: readMoment(until, "--until", now) }),
  };
}
