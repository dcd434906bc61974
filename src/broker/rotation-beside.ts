/**
 * Replaces a secret of which the upstream makes the new value beside the present one, as it does access keys. In this order, so that
 * the version that counts is let in whatever dies when, and nothing that was made is forgotten:
 *
 * 1. A mark of what is about to be made is sealed as a version that waits.
 * 2. The upstream makes the new value; it waits in the mark's place.
 * 3. The upstream proves that it lets it in.
 * 4. The new value counts, and a mark of the old one waits: one step.
 * 5. The old one is ended at the upstream, and nothing waits any more.
 *
 * So whatever waits is to be ended, with the value that counts. The same rule mends what a crash leaves behind at each of these; a
 * new value that waits, or may come, is given up first (another mark waits in its place), so that nobody makes one count that is being
 * ended.
 */
import { OAuthError } from "../core/oauth/errors.ts";
import type { BrokerDeps } from "./deps.ts";
import type { Held } from "./one-at-a-time.ts";
import type { RotationBeside, RotationOrder } from "./provider.ts";
import { ProviderError } from "./provider-error.ts";
import { rotationEvent } from "./rotation-record.ts";
import type { RotationTask } from "./rotation-record.ts";
import { ended, overtaken, sealed, STEP_LIMIT_MS, type OpenedBoth } from "./rotation-steps.ts";
import type { SecretText } from "./secret-text.ts";

/** One rotation. */
interface Beside {
  readonly task: RotationTask;
  readonly rotation: RotationBeside<unknown>;
  readonly opened: OpenedBoth;
}

/** A version that waits. */
interface Waiting {
  readonly value: SecretText;
  readonly version: number;
}

/**
 * The whole of it, where nothing waits.
 *
 * @throws {ProviderError | ProblemError | OAuthError} the present value counts and is let in; after `conflict` another one counts
 */
export async function besideThePresent(deps: BrokerDeps, at: Beside & { readonly held: Held }): Promise<void> {
  const { task, rotation, held } = at;
  const { order, present } = at.opened;
  const next = await made(deps, at, held);
  try {
    await rotation.prove({ ...order, next: next.value }, step());
  } catch (error) {
    await takenBack(deps, at, { waiting: next, error });
    throw error;
  }
  const old = await followed(deps, at, { waiting: next, next: rotation.markOf(present), outcome: "rotated" });
  if (old === undefined) throw await tooLate(deps, at, next.value);
  const secrets = new Map([...order.secrets, [task.use.secret, next.value]]);
  // It has been replaced. What is left of the old one is looked after from now on by whoever looks.
  await endAndSettle(deps, { ...at, order: { ...order, secrets }, waiting: old, outcome: "old one ended" }).catch(
    (err: unknown) => notEnded(deps, task, err),
  );
}

/**
 * Ends at the upstream what somebody left waiting, and its wait.
 *
 * @throws {ProviderError | ProblemError | OAuthError} when that cannot be done now
 */
export async function endWhatWaits(deps: BrokerDeps, at: Beside): Promise<void> {
  const { order, waiting } = at.opened;
  if (!waiting) return;
  const mark = at.rotation.markOf(waiting.value);
  // Whoever makes a new value may live and have lost the lock alone: from here on they cannot make it count any more.
  const left =
    mark === waiting.value ? waiting : await followed(deps, at, { waiting, next: mark, outcome: "given up" });
  if (left === undefined) throw overtaken();
  await endAndSettle(deps, { ...at, order, waiting: left, outcome: "leftover ended" });
}

async function made(deps: BrokerDeps, at: Beside, held: Held): Promise<Waiting> {
  const { task, rotation, opened } = at;
  const mark = await rotation.begin(opened.order, step());
  const version = await sealed(mark, (value) => deps.nextVersions.hold({ name: task.use.secret, value, by: task.by }));
  if (version === undefined) throw overtaken();
  let next: SecretText;
  try {
    await held.check();
    next = await rotation.make(opened.order, step());
  } catch (error) {
    // Otherwise the mark goes on waiting: an answer that was lost may have held a value, and it may take a while to be seen.
    if (!mayHaveMade(error)) await ended(deps, task, { version, counts: false, error });
    throw error;
  }
  const waiting = await followed(deps, at, { waiting: { value: mark, version }, next, outcome: "made" }).catch(
    async (error: unknown) => {
      // By the mark it is found again, if this fails.
      await endNow(deps, at, next);
      throw error;
    },
  );
  if (waiting === undefined) throw await tooLate(deps, at, next);
  return waiting;
}

function mayHaveMade(error: unknown): boolean {
  // The lock was lost before it was asked.
  if (error instanceof OAuthError) return false;
  return !(error instanceof ProviderError) || error.isTransient || error.problem === "answer_malformed";
}

/** Has another wait; when it was `rotated`, the one before counts. @returns undefined when that does not wait any more */
async function followed(
  deps: BrokerDeps,
  { task }: Beside,
  { waiting, next, outcome }: { waiting: Waiting; next: SecretText; outcome: "made" | "rotated" | "given up" },
): Promise<Waiting | undefined> {
  const { version } = waiting;
  const event = deps.recorder.draft(rotationEvent(task, { version, outcome }), "noted");
  const at = { name: task.use.secret, version, counts: outcome === "rotated", by: task.by, event };
  const following = await sealed(next, (value) => deps.nextVersions.follow({ ...at, next: value }));
  return following === undefined ? undefined : { value: next, version: following };
}

/** The new value was not let in. Where it cannot be ended either, it waits to be. */
async function takenBack(deps: BrokerDeps, at: Beside, o: { waiting: Waiting; error: unknown }): Promise<void> {
  const { task, opened } = at;
  await endAndSettle(deps, { ...at, ...o, order: opened.order, outcome: "as it was" }).catch((err: unknown) =>
    notEnded(deps, task, err),
  );
}

async function endAndSettle(
  deps: BrokerDeps,
  at: Omit<Beside, "opened"> & {
    order: RotationOrder<unknown>;
    waiting: Waiting;
    outcome: string;
    error?: unknown;
  },
): Promise<void> {
  const { task, rotation, order, waiting, outcome, error } = at;
  await rotation.end({ ...order, left: waiting.value }, step());
  await ended(deps, task, { version: waiting.version, counts: false, outcome, error });
}

/** A value was set meanwhile: that one counts, and ours must not stay at the upstream. */
async function tooLate(deps: BrokerDeps, at: Beside, ours: SecretText): Promise<Error> {
  await endNow(deps, at, ours);
  return overtaken();
}

async function endNow(deps: BrokerDeps, { task, rotation, opened }: Beside, left: SecretText): Promise<void> {
  await rotation.end({ ...opened.order, left }, step()).catch((err: unknown) => notEnded(deps, task, err));
}

function notEnded(deps: BrokerDeps, { use }: RotationTask, err: unknown): void {
  deps.log.warn("rotation_not_ended", { resource: use.resource, name: use.secret, err });
}

function step(): AbortSignal {
  return AbortSignal.timeout(STEP_LIMIT_MS);
}
