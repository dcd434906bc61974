import type { Db } from "../db/database.ts";
import { createLane } from "../db/lane.ts";
import type { DatabaseClock } from "../system/clock.ts";

/** One call of an agent at a resource that says how many it may make in a minute. */
export interface CountedCall {
  readonly agent: string;
  readonly resource: string;
  readonly perMinute: number;
}

/**
 * How many calls each agent made at each limited resource in this minute of the database's clock, over all replicas. One row
 * for each two, that only calls at limited resources touch; the calls that come together share a statement.
 */
export interface CallCounts {
  /**
   * Counts a call.
   *
   * @returns undefined where it is within the limit, else seconds until the next minute
   * @throws {DatabaseUnreachableError} whoever cannot count lets nothing through
   */
  count(call: CountedCall): Promise<number | undefined>;
}

interface Total {
  readonly agent: string;
  readonly resource: string;
  readonly minute: number;
  readonly calls: number;
}

/** Counts in the database, and remembers until the minute's end who has used up his. */
export function createCallCounts({ db, clock }: { db: Db; clock: DatabaseClock }): CallCounts {
  const spent = { minute: 0, calls: new Map<string, number>() };

  function remember({ agent, resource, minute, calls }: Total): void {
    if (minute < spent.minute) return;
    if (minute > spent.minute) {
      spent.minute = minute;
      spent.calls.clear();
    }
    spent.calls.set(keyOf({ agent, resource }), calls);
  }

  /** @returns for each call its place among all of its minute, counted from 1 */
  async function send(calls: readonly CountedCall[]): Promise<readonly number[]> {
    const places = new Map<string, { call: CountedCall; members: number[] }>();
    calls.forEach((call, index) => {
      const key = keyOf(call);
      const place = places.get(key) ?? { call, members: [] };
      place.members.push(index);
      places.set(key, place);
    });
    const asked = [...places.values()];
    // In one order everywhere, so that no two replicas wait for each other.
    const totals = await db.query<Total>(
      `insert into ephor.call_counts as c (agent, resource, minute, calls)
       select a.agent, a.resource, $4::int, a.calls from unnest($1::text[], $2::text[], $3::int[]) as a(agent, resource, calls)
       order by a.agent, a.resource
       on conflict (agent, resource) do update set minute = greatest(c.minute, excluded.minute),
         calls = excluded.calls + case when c.minute < excluded.minute then 0 else c.calls end
       returning agent, resource, minute, calls`,
      [
        asked.map(({ call }) => call.agent),
        asked.map(({ call }) => call.resource),
        asked.map(({ members }) => members.length),
        minuteOf(clock),
      ],
    );
    const answers: number[] = [];
    for (const total of totals) {
      remember(total);
      const members = places.get(keyOf(total))?.members ?? [];
      members.forEach((member, index) => {
        answers[member] = total.calls - members.length + index + 1;
      });
    }
    return answers;
  }

  const lane = createLane(send);
  const wait = (): number => 60 - (clock.now() % 60);
  return {
    async count(call) {
      // Whoever goes on after his limit asks the database no more.
      const isSpent = spent.minute >= minuteOf(clock) && (spent.calls.get(keyOf(call)) ?? 0) >= call.perMinute;
      if (isSpent) return wait();
      return (await lane.submit(call)) <= call.perMinute ? undefined : wait();
    },
  };
}

function minuteOf(clock: DatabaseClock): number {
  return Math.floor(clock.now() / 60);
}

/** Names have no blank. */
function keyOf({ agent, resource }: { agent: string; resource: string }): string {
  return `${agent} ${resource}`;
}
