/** Where a kill is enforced, and the canary looks. */
export const CANARY_POINTS = ["exchange", "introspection", "feed"] as const;

/** A point of enforcement. */
export type CanaryPoint = (typeof CANARY_POINTS)[number];

/** The doors that the canary goes through; everybody's tokens and kills take the same. */
export interface CanaryDoors {
  /** Opens a chain. @returns its `txn` */
  open(): Promise<string>;
  /** A token in the chain; undefined where it was refused as killed. @throws whatever else was wrong */
  exchange(txn: string): Promise<string | undefined>;
  /** Whether introspection calls it active. */
  isActive(token: string): Promise<boolean>;
  /** The feed of the canary's resource after a place: how far it came, and the chains that it names. */
  feed(after: number | undefined): Promise<{ readonly seq: number; readonly dead: readonly string[] }>;
  /** Kills the chain. Resolves with the answer. */
  kill(txn: string): Promise<void>;
}

/** What one turn found. */
export interface CanaryTurn {
  readonly txn: string;
  /** Place in the feed before it, for the next turn. */
  readonly seq: number;
  /** Seconds from asking for the kill to the first refusal of each point that refused. */
  readonly denied: ReadonlyMap<CanaryPoint, number>;
  /** Points that still allowed after the kill was answered. */
  readonly allowed: readonly CanaryPoint[];
}

/** The canary found no way to measure; nothing is said about kills. */
export class CanaryNotRunError extends Error {
  override readonly name = "CanaryNotRunError";
}

/** Verifiers are told within a second (CONTRACT §6), in milliseconds. */
const FEED_MS = 1_000;
const FEED_PAUSE_MS = 25;

/**
 * One turn: a chain is opened, its token works at each point, the chain is killed, and each point is asked at once.
 *
 * @param from place in the feed that the last turn left; undefined at the first
 * @throws {CanaryNotRunError} when something did not work before the kill
 * @throws whatever a door throws: the turn says nothing then
 */
export async function canaryTurn(doors: CanaryDoors, from?: number): Promise<CanaryTurn> {
  const { seq } = await doors.feed(from);
  const txn = await doors.open();
  const token = await doors.exchange(txn);
  if (token === undefined || !(await doors.isActive(token)))
    throw new CanaryNotRunError("the canary's token did not work before its kill");
  const askedMs = performance.now();
  await doors.kill(txn);
  const probes: Readonly<Record<CanaryPoint, () => Promise<boolean>>> = {
    exchange: async () => (await doors.exchange(txn)) === undefined,
    introspection: async () => !(await doors.isActive(token)),
    feed: () => isTold(doors, { txn, seq }),
  };
  const denied = new Map<CanaryPoint, number>();
  const allowed: CanaryPoint[] = [];
  const asked = CANARY_POINTS.map(async (point) => {
    if (await probes[point]()) denied.set(point, (performance.now() - askedMs) / 1_000);
    else allowed.push(point);
  });
  const failure = (await Promise.allSettled(asked)).find((probe) => probe.status === "rejected");
  // One that allowed is told, whatever became of the others.
  if (failure !== undefined && allowed.length === 0) throw failure.reason;
  return { txn, seq, denied, allowed };
}

/** Whether the feed names the chain in time. */
async function isTold(doors: CanaryDoors, { txn, seq }: { txn: string; seq: number }): Promise<boolean> {
  const untilMs = performance.now() + FEED_MS;
  for (let after = seq; ;) {
    const frame = await doors.feed(after);
    if (frame.dead.includes(txn)) return true;
    if (performance.now() >= untilMs) return false;
    after = frame.seq;
    await new Promise((resolve) => setTimeout(resolve, FEED_PAUSE_MS));
  }
}
