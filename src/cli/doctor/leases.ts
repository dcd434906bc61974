import type { LeasePage } from "../../api/leases.ts";
import type { CliContext } from "../context.ts";
import { nowSeconds, shownInstant } from "../moments.ts";
import type { Finding } from "./finding.ts";

/** Findings at most; one dead upstream makes many stuck leases. */
const MAX_SHOWN = 10;

/** By the problem that a provider names; the upstream's own words stay in the server's log, as a code. */
const MENDS: Readonly<Record<string, string>> = {
  unreachable: "Make the upstream reachable from the server; then it ends by itself",
  credentials_refused: "Its login was refused: set the resource's secret anew; then it ends by itself",
  secret_malformed: "Its secret is gone or malformed: set it anew; then it ends by itself",
  order_refused:
    "The upstream refuses: for a database role, drop what others made upon its objects, or drop the role by hand",
};

/** Credentials whose upstream does not let them end: they may still work there. */
export async function lookAtLeases({ api }: CliContext): Promise<Finding[]> {
  const { items, next } = await api.get<LeasePage>("/v1/leases", { stuck: "true", limit: MAX_SHOWN });
  if (items.length === 0) return [{ subject: "credentials", state: "ok", detail: "all that were vended end in time" }];
  return [
    ...items.map(({ lease, resource, agent, ends_at: endsAt, stuck_since: since, problem, attempts = 0 }): Finding => ({
      subject: "credentials",
      state: "wrong",
      detail:
        `${lease} of ${agent} at ${resource} could not be ended since ${shownInstant(since ?? endsAt)}` +
        ` (${problem ?? "no worker took it"}, ${attempts} tries${endsAt > nowSeconds() ? "" : ", past its end"}): it may still work there`,
      mend:
        MENDS[problem ?? ""] ??
        (problem === undefined
          ? "See that a server runs and that its log has no leases_not_read"
          : "Look for lease_not_ended in the server's log"),
    })),
    ...(next === undefined
      ? []
      : [{ subject: "credentials", state: "wrong", detail: `and more: GET /v1/leases?stuck=true` } as const]),
  ];
}
