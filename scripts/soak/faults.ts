import type { Replica, Replicas } from "../../test/support/replicas.ts";
import type { Chance } from "./chance.ts";
import type { Wire } from "./wire.ts";

/** What can be done to a deployment. */
export interface Deployment {
  readonly r: Replicas;
  /** By place: a replica that was killed is replaced by its successor on the same port. The first is left alone. */
  readonly serving: Replica[];
  /** That of the last replica. */
  readonly wire: Wire;
  readonly chance: Chance;
}

const FAULTS = ["pause", "kill -9", "sessions cut", "fast restart", "immediate restart", "network cut"] as const;
/** One that happened. */
export type Fault = (typeof FAULTS)[number];

/** Time that is left alone between faults, milliseconds: a replica that was hit must come back to be worth hitting. */
const BETWEEN_MS = { least: 1_500, more: 2_500 };
/** A fault with its end, milliseconds: none begins so late that its end could not be seen. */
const LONGEST_MS = 15_000;
const RECOVERED_MS = 30_000;
const STARTS = 5;

/**
 * Does each of the faults in turn, in an order and for times by chance, then again in another order.
 *
 * @param until monotonic milliseconds
 * @returns how often each
 */
export async function harm(at: Deployment, until: number, say: (text: string) => void): Promise<Map<Fault, number>> {
  const { chance } = at;
  const done = new Map<Fault, number>(FAULTS.map((fault) => [fault, 0]));
  let bag: Fault[] = [];
  for (;;) {
    await pause(BETWEEN_MS.least + chance.below(BETWEEN_MS.more));
    if (performance.now() + LONGEST_MS > until) return done;
    if (bag.length === 0) bag = [...FAULTS];
    const fault = chance.of(bag);
    bag = bag.filter((other) => other !== fault);
    say(await DO[fault](at));
    done.set(fault, (done.get(fault) ?? 0) + 1);
  }
}

/** Each resolves when it is over, with what it was. */
const DO: Readonly<Record<Fault, (at: Deployment) => Promise<string>>> = {
  async pause({ serving, chance }) {
    const { child } = serving[place(serving, chance)] as Replica;
    const ms = 1_000 + chance.below(7_000);
    child.kill("SIGSTOP");
    await pause(ms);
    child.kill("SIGCONT");
    return `paused for ${ms} ms`;
  },
  async "kill -9"({ r, serving, wire, chance }) {
    const at = place(serving, chance);
    const replica = serving[at] as Replica;
    replica.child.kill("SIGKILL");
    await replica.ended;
    const isWired = at === serving.length - 1;
    const port = Number(new URL(replica.url).port);
    // A start that fails is tried again, as whoever runs replicas does; a fault that is just over may still be felt.
    for (let tries = 1; ; tries++) {
      try {
        serving[at] = await r.start({
          port,
          ...(isWired && { env: wire.env, ...(wire.place && { place: wire.place }) }),
        });
        return `kill -9, and its successor started${tries === 1 ? "" : ` at the ${tries}. try`}`;
      } catch (error) {
        if (tries === STARTS) throw error;
      }
    }
  },
  async "sessions cut"({ r }) {
    const cut = await r.database.admin(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and application_name like 'ephor%'",
    );
    return `${cut.length} database sessions cut`;
  },
  async "fast restart"({ r, chance }) {
    const ms = chance.below(4_000);
    await r.database.stop();
    await pause(ms);
    await r.database.start();
    return `database stopped (fast), started on the same folder after ${ms} ms`;
  },
  async "immediate restart"({ r }) {
    const began = performance.now();
    const before = await startedAt(r);
    r.database.crash();
    // It recovers from its log and is there again: another server, on the same folder.
    while ((await startedAt(r).catch(() => before)) === before) {
      if (performance.now() - began > RECOVERED_MS) throw new Error("the database did not come back");
      await pause(50);
    }
    return `database stopped (immediate), recovered after ${(performance.now() - began).toFixed(0)} ms`;
  },
  async "network cut"({ wire, chance }) {
    const ms = 1_000 + chance.below(7_000);
    wire.cut();
    await pause(ms);
    wire.restore();
    return `network of the last replica to the database cut for ${ms} ms`;
  },
};

/** Any but the first. */
function place(serving: readonly Replica[], chance: Chance): number {
  return 1 + chance.below(serving.length - 1);
}

async function startedAt(r: Replicas): Promise<string | undefined> {
  const [row] = await r.database.admin<{ at: string }>("select pg_postmaster_start_time()::text as at");
  return row?.at;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
