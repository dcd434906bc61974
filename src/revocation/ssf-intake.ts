import { CANARY } from "../core/trust/canary.ts";
import type { Db } from "../db/database.ts";
import type { HitRow } from "./feed-entries.ts";
import { eventsOfStep, needsHits, type Naming, type SsfEvent, type Step } from "./ssf-events.ts";
import { delivers, eventRows, insertEvents, MAX_BACKLOG, type SsfStream } from "./ssf-streams.ts";

/** Steps of the kill position that are taken in at once. */
const STEPS = 100;

/** What a stream could not take, or must not any more. */
export type IntakeEnd = "backlog" | "resource_removed";

/**
 * Takes kills into a stream, once each, whatever number of replicas do so at once: the stream's place moves in the statement that
 * writes the events. What is hit is looked up now, while its tokens are known; a receiver that comes days later is told all the
 * same. The canary's kills are left out, as everywhere.
 *
 * @param epoch a kill position that was read before
 * @returns why the stream must be disabled, where it must
 */
export async function takeSteps(
  db: Pick<Db, "query">,
  stream: SsfStream,
  at: { epoch: number; naming: Naming; nowMs: number },
): Promise<IntakeEnd | undefined> {
  const { epoch, naming, nowMs } = at;
  let taken = stream.taken;
  const own = ownResource(stream, naming);
  while (taken < epoch) {
    const steps = await stepsAfter(db, { after: taken, until: epoch, nowMs });
    const to = steps.length < STEPS ? epoch : (steps.at(-1) as Step).position;
    const events: SsfEvent[] = [];
    for (const step of delivers(stream) ? steps : []) {
      const hits = await hitsOf(db, step, own?.identifier);
      events.push(...eventsOfStep(step, hits, { stream: { id: stream.id, resource: own }, naming }));
      if (events.length > MAX_BACKLOG) return "backlog";
    }
    const moved = await db.query(
      `with moved as (update ephor.ssf_streams set taken = $2 where id = $1 and taken = $3 and status <> 'disabled' returning id),
       told as (${insertEvents("$4")}) select id from moved`,
      [stream.id, to, taken, eventRows(events)],
    );
    if (
      own !== undefined &&
      steps.some((step) => step.id === removal(step.position) && step.keys.includes(`resource:${own.name}`))
    )
      return "resource_removed";
    // Another replica was faster, and goes on.
    if (moved.length === 0) return undefined;
    taken = to;
    if (events.length > 0 && (await backlogOf(db, stream.id)) > MAX_BACKLOG) return "backlog";
  }
  return undefined;
}

/** Its tokens bear the identifier that it has now; the stream keeps the one that it began with. */
function ownResource(
  { resource: name, aud }: SsfStream,
  { trust }: Naming,
): { name: string; identifier: string } | undefined {
  return name === null ? undefined : { name, identifier: trust.resourceByName(name)?.identifier ?? aud };
}

const removal = (position: number): string => `removed:${position}`;

/** Kills, and names that were taken out of the trust state: those have a place among kills and no record there. */
async function stepsAfter(
  db: Pick<Db, "query">,
  o: { after: number; until: number; nowMs: number },
): Promise<readonly Step[]> {
  return await db.query<Step>(
    `select k.id, k.position, k.at_ms, k.actor, k.reason, k.keys from ephor.kills k
     where k.position > $1 and k.position <= $2 and k.actor <> $4
     union all
     select 'removed:' || d.position, d.position, $3::bigint, 'operator:', 'removed from the trust state', array_agg(d.key order by d.key)
     from ephor.dead_keys d where d.position > $1 and d.position <= $2
       and not exists (select 1 from ephor.kills k where k.position = d.position)
     group by d.position
     order by position limit ${STEPS}`,
    [o.after, o.until, o.nowMs, CANARY],
  );
}

/**
 * Tokens that lived when it happened, by the key that hit them: all of a resource's; else those whose key says nothing to others.
 * That they were there is told by position: `iat` is of the clock of whichever replica issued them.
 */
async function hitsOf(db: Pick<Db, "query">, step: Step, aud: string | undefined): Promise<readonly HitRow[]> {
  const keys = aud === undefined ? step.keys.filter(needsHits) : step.keys;
  if (keys.length === 0) return [];
  const seconds = Math.floor(step.at_ms / 1_000);
  return await db.query<HitRow>(
    `select h.aud, k.key, array_agg(h.jti order by h.jti) as jtis, max(h.iat) as last_iat
     from ephor.hops h cross join unnest(h.kill_keys, h.kill_epochs) as k(key, epoch)
     where h.exp > $2 and k.epoch < $4 and ($3::text is null or h.aud = $3) and h.kill_keys && $1 and k.key = any($1)
     group by h.aud, k.key order by h.aud, k.key`,
    [keys, seconds, aud ?? null, step.position],
  );
}

async function backlogOf(db: Pick<Db, "query">, id: string): Promise<number> {
  const [row] = await db.query<{ count: number }>(
    `select count(*) as count from (select 1 from ephor.ssf_events where stream = $1 limit ${MAX_BACKLOG + 1}) e`,
    [id],
  );
  return row?.count ?? 0;
}
