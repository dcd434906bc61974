/** Where a kill is enforced, and the canary looks: `proxy` is a call that is made afterwards, `stream` one that flows meanwhile. */
export const CANARY_POINTS = ["exchange", "introspection", "vend", "proxy", "stream", "feed"] as const;

/** A point of enforcement. */
export type CanaryPoint = (typeof CANARY_POINTS)[number];

/** Points that are asked with a token, one for each: a token is for one resource. */
export type CanaryUse = "introspection" | "vend" | "proxy";

/** The doors that the canary goes through; everybody's tokens and kills take the same. */
export interface CanaryDoors {
  /** Opens a chain. @returns its `txn` */
  open(): Promise<string>;
  /** A token in the chain; undefined where it was refused as killed. @throws whatever else was wrong */
  exchange(txn: string, use: CanaryUse): Promise<string | undefined>;
  /** Whether introspection calls it active. */
  isActive(token: string): Promise<boolean>;
  /** Whether a credential comes by it; false where it was refused as killed. @throws whatever else was wrong */
  vend(token: string): Promise<boolean>;
  /** A proxied call, whose answer flows until it is cut; undefined where it was refused as killed. @throws whatever else was wrong */
  call(token: string): Promise<CanaryCall | undefined>;
  /** The feed of the canary's resource after a place: how far it came, and the chains that it names. */
  feed(after: number | undefined): Promise<{ readonly seq: number; readonly dead: readonly string[] }>;
  /** Kills the chain. Resolves with the answer. */
  kill(txn: string): Promise<void>;
}

/** An answer that flows. */
export interface CanaryCall {
  /** Whether something of it came. */
  readonly began: Promise<boolean>;
  /** When nothing came any more, in monotonic milliseconds. Never rejects. */
  readonly ended: Promise<number>;
  /** Whether another byte might leave now. */
  mayFlow(): boolean;
  /** Hangs up. */
  close(): void;
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
/** What may not flow any more has ended within this, in milliseconds. */
const CUT_MS = 1_000;

/**
 * One turn: a chain is opened, its tokens work at each point, the chain is killed, and each point is asked at once.
 *
 * @param from place in the feed that the last turn left; undefined at the first
 * @throws {CanaryNotRunError} when something did not work before the kill
 * @throws whatever a door throws: the turn says nothing then
 */
export async function canaryTurn(doors: CanaryDoors, from?: number): Promise<CanaryTurn> {
  const { seq } = await doors.feed(from);
  const txn = await doors.open();
  const tokens = await working(doors, txn);
  const { call } = tokens;
  try {
    const askedMs = performance.now();
    await doors.kill(txn);
    const { denied, allowed } = await asked(probesOf(doors, { txn, seq, ...tokens }), askedMs);
    return { txn, seq, denied, allowed };
  } finally {
    call.close();
  }
}

interface Working {
  readonly active: string;
  readonly vended: string;
  readonly proxied: string;
  /** It flows. */
  readonly call: CanaryCall;
}

/** Tokens of the chain that were used, each at its point. @throws {CanaryNotRunError} */
async function working(doors: CanaryDoors, txn: string): Promise<Working> {
  const uses = ["introspection", "vend", "proxy"] as const;
  const [active, vended, proxied] = await Promise.all(uses.map((use) => doors.exchange(txn, use)));
  if (active === undefined || vended === undefined || proxied === undefined) throw notWorking("exchange");
  const call = await doors.call(proxied);
  try {
    if (call === undefined || !(await call.began)) throw notWorking("proxy");
    const [isActive, isVended] = await Promise.all([doors.isActive(active), doors.vend(vended)]);
    if (!isActive) throw notWorking("introspection");
    if (!isVended) throw notWorking("vend");
    if (!call.mayFlow()) throw notWorking("stream");
  } catch (error) {
    call?.close();
    throw error;
  }
  return { active, vended, proxied, call };
}

function notWorking(point: CanaryPoint): CanaryNotRunError {
  return new CanaryNotRunError(`${point}: the canary's token did not work before its kill`);
}

/** When it refused, in monotonic milliseconds; undefined where it allowed. */
type Probe = () => Promise<number | undefined>;

function probesOf(
  doors: CanaryDoors,
  { txn, seq, active, vended, proxied, call }: Working & { txn: string; seq: number },
): Readonly<Record<CanaryPoint, Probe>> {
  const refused = async (isRefused: Promise<boolean>): Promise<number | undefined> =>
    (await isRefused) ? performance.now() : undefined;
  return {
    exchange: () => refused(doors.exchange(txn, "introspection").then((token) => token === undefined)),
    introspection: () => refused(doors.isActive(active).then((isActive) => !isActive)),
    vend: () => refused(doors.vend(vended).then((isVended) => !isVended)),
    proxy: () =>
      refused(
        doors.call(proxied).then((again) => {
          again?.close();
          return again === undefined;
        }),
      ),
    stream: () => whenCut(call),
    feed: () => refused(isTold(doors, { txn, seq })),
  };
}

/** Asks all of them at once. @throws what one threw, where all others refused */
async function asked(
  probes: Readonly<Record<CanaryPoint, Probe>>,
  askedMs: number,
): Promise<Pick<CanaryTurn, "denied" | "allowed">> {
  const denied = new Map<CanaryPoint, number>();
  const allowed: CanaryPoint[] = [];
  const answers = CANARY_POINTS.map(async (point) => {
    const atMs = await probes[point]();
    if (atMs === undefined) allowed.push(point);
    else denied.set(point, (atMs - askedMs) / 1_000);
  });
  const failure = (await Promise.allSettled(answers)).find((probe) => probe.status === "rejected");
  // One that allowed is told, whatever became of the others.
  if (failure !== undefined && allowed.length === 0) throw failure.reason;
  return { denied, allowed };
}

/** A kill is answered when nothing of it may flow any more (INV-08). */
async function whenCut(call: CanaryCall): Promise<number | undefined> {
  if (call.mayFlow()) return undefined;
  let late: NodeJS.Timeout | undefined;
  const tooLate = new Promise<undefined>((resolve) => {
    late = setTimeout(() => resolve(undefined), CUT_MS);
  });
  return await Promise.race([call.ended, tooLate]).finally(() => clearTimeout(late));
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
