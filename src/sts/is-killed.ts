import { deathKeys } from "../core/kill/keys.ts";
import type { ActingAgent } from "./acting-agent.ts";
import type { StsDeps } from "./deps.ts";

/**
 * Whether a kill that is in force covers an agent that just proved itself. For requests that release nothing and so do not
 * pass the gate; read in the database each time.
 *
 * @param acting its name, its owner and the issuer of its workload token are looked for
 * @throws {DatabaseUnreachableError}
 */
export async function isKilled(deps: Pick<StsDeps, "db" | "clock">, acting: ActingAgent): Promise<boolean> {
  const keys = deathKeys.ofAgent(acting.agent, acting.workload?.issuer.name);
  const [row] = await deps.db.query<{ dead: boolean }>(
    "select ephor.is_dead($1::text[], array_fill(null::bigint, array[cardinality($1::text[])]), 9223372036854775807, $2::bigint) as dead",
    [keys, deps.clock.now()],
  );
  return row?.dead !== false;
}
