/** What a database has gathered after years: a million agents, each with its grant, and kills that nobody lifted. */
import { readFileSync } from "node:fs";
import pg from "pg";

/** How much of it. */
export interface Crowd {
  readonly agents: number;
  readonly kills: number;
}

/** Of the workload tokens that are sent to a server with a crowd: as many agents, evenly out of all. */
const ASKING = 20_000;

/** `sub` of the tokens of one of the crowd's agents. */
const subject = (i: number): string => `system:serviceaccount:crowd:crowd-${i}`;

/** Values of `sub` of agents all over the crowd. */
export function crowdSubjects({ agents }: Crowd): readonly string[] {
  const count = Math.min(ASKING, agents);
  return Array.from({ length: count }, (_, i) => subject(Math.floor((i * agents) / count)));
}

/** Puts a crowd into a database on which Ephor has started once, and is not running. */
export async function bringCrowd(url: string, { agents, kills }: Crowd): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query("begin");
    const { rows } = await client.query<{ v: string; e: string }>(
      "update ephor.gate set trust_version = trust_version + 1 returning trust_version as v, epoch as e",
    );
    const version = rows[0]?.v;
    const epoch = Number(rows[0]?.e);
    await client.query(
      `insert into ephor.trust_objects (kind, name, source, body, version)
       select 'agents', 'crowd-' || i, 'crowd', jsonb_build_object(
         'owner', 'team-' || i % 997 || '@bench.example', 'purpose', 'nightly job ' || i,
         'trust', jsonb_build_array(jsonb_build_object('issuer', 'ci', 'claims',
           jsonb_build_object('sub', 'system:serviceaccount:crowd:crowd-' || i)))), $2::bigint
       from generate_series(0, $1::int - 1) i
       union all
       select 'grants', 'crowd-' || i || '-billing', 'crowd', jsonb_build_object(
         'agent', 'crowd-' || i, 'resource', 'billing', 'actions', jsonb_build_array('read_invoice')), $2::bigint
       from generate_series(0, $1::int - 1) i`,
      [agents, version],
    );
    await client.query(
      "insert into ephor.trust_log (version, kind, name, deleted) select version, kind, name, false from ephor.trust_objects where source = 'crowd'",
    );
    // Kills of each sort, all in force, none of whom asks.
    await client.query(
      `with killed as (select i, case i % 4 when 0 then 'agent:gone-' when 1 then 'txn:gone-' when 2 then 'jti:gone-' else 'subject:okta|gone-' end || i as key
         from generate_series(1, $1::int) i),
       dead as (insert into ephor.dead_keys (key, position, active, kill_id) select key, $2::bigint + i, true, 'kill_' || i from killed)
       insert into ephor.kills (id, position, at_ms, actor, reason, keys, receipt)
       select 'kill_' || i, $2::bigint + i, i, 'operator:bench', 'bench', array[key], '{}' from killed`,
      [kills, epoch],
    );
    await client.query("update ephor.gate set epoch = $1", [epoch + kills]);
    await client.query("commit");
    await client.query("vacuum analyze ephor.trust_objects, ephor.trust_log, ephor.dead_keys, ephor.kills");
    await client.query("checkpoint");
  } finally {
    await client.end();
  }
}

/** Memory that a process has in use, in MB; nothing where the system does not tell. */
export function residentMb(pid: number): number | undefined {
  if (process.platform !== "linux") return undefined;
  const kb = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return kb === undefined ? undefined : Math.round(Number(kb) / 1_024);
}
