/**
 * Replaces a secret of the vault at its upstream. In this order, so that whatever dies when, one of the two values that the vault
 * has is let in:
 *
 * 1. One at a time over all replicas (`one-at-a-time.ts`).
 * 2. Decided and recorded at the gate; that opens the present value.
 * 3. The new value is sealed as a version that waits.
 * 4. The upstream is changed, and proves it.
 * 5. The version that waited counts. Where the upstream was not changed, it never will.
 *
 * A version that still waits when the secret is free was left behind by a crash or by an upstream that went away. The next
 * rotation, a vend that is refused, or a look once a minute asks the upstream which of the two it lets in.
 *
 * Where the upstream makes the value beside the present one, `rotation-beside.ts` does it.
 */
import { ProblemError } from "../api/problem.ts";
import type { SecretFacts } from "../vault/secrets.ts";
import type { BrokerDeps } from "./deps.ts";
import type { Held } from "./one-at-a-time.ts";
import { openSecrets } from "./opened-secrets.ts";
import type { RotationBeside, RotationByUpstream, RotationByUs, SecretRotation } from "./provider.ts";
import { ProviderError } from "./provider-error.ts";
import { besideThePresent, endWhatWaits } from "./rotation-beside.ts";
import { askedEvent, failed, permitsFor, rotationEvent } from "./rotation-record.ts";
import type { RotationAsker, RotationTask } from "./rotation-record.ts";
import { ended, idOf, openBoth, orderOf, overtaken, sealed, STEP_LIMIT_MS, type OpenedBoth } from "./rotation-steps.ts";
import { rotationUse, type NoRotation, type RotationUse } from "./rotation-use.ts";

const WHY_NOT: Readonly<Record<NoRotation, string>> = {
  unused: "no credential resource uses this secret, so nothing says where it is to be changed",
  kind: "a resource that uses this secret cannot change it at its upstream; change it there and set it",
  several_places: "resources use this secret at several places: changed at one, it would be wrong at the others",
};

/**
 * Replaces a secret.
 *
 * @returns its facts, and the resource that it was done through
 * @throws {ProblemError} `not_found`, `unprocessable`, `conflict`; {TemporarilyUnavailableError} the upstream or the database is
 * away, `permit_lapsed`, `overloaded`
 */
export async function rotateSecret(
  deps: BrokerDeps,
  secret: string,
  asker: RotationAsker,
): Promise<{ facts: SecretFacts; resource: string }> {
  if (!(await deps.secrets.describe(secret))) throw new ProblemError("not_found");
  const choice = rotationUse(deps, secret);
  if ("no" in choice) {
    await deps.recorder.refused(
      { ...askedEvent(asker), facts: { secret, problem: choice.no, resources: choice.resources } },
      "not_served",
    );
    throw new ProblemError(choice.no === "several_places" ? "conflict" : "unprocessable", {
      detail: [WHY_NOT[choice.no], ...choice.resources.slice(0, 5)].join("; "),
    });
  }
  const { use } = choice;
  const task: RotationTask = { ...asker, use, id: idOf(deps), why: asker.dueSeconds === undefined ? "asked" : "due" };
  const held = await deps.oneAtATime.acquire([secret]);
  try {
    if (await isStillDue(deps, task)) await FLOWS[use.rotation.by](deps, task, held);
  } catch (error) {
    throw await failed(deps, task, error);
  } finally {
    await held.release();
  }
  const facts = await deps.secrets.describe(secret);
  if (!facts) throw new ProblemError("not_found");
  return { facts, resource: use.resource };
}

/** Another replica may have done it while we waited. */
async function isStillDue(deps: BrokerDeps, { use, dueSeconds }: RotationTask): Promise<boolean> {
  if (dueSeconds === undefined) return true;
  const facts = await deps.secrets.describe(use.secret);
  return facts !== undefined && facts.updatedAt + dueSeconds * 1_000 <= deps.clock.nowMs();
}

const FLOWS: Readonly<
  Record<SecretRotation<unknown>["by"], (deps: BrokerDeps, task: RotationTask, held: Held) => Promise<void>>
> = { us: byUs, upstream: byUpstream, beside };

/**
 * Finds out what became of a rotation that somebody left behind; waits for one that is under way.
 *
 * @throws {ProviderError | OAuthError | DecryptError} when nobody can say now
 */
export async function settleLeftBehind(deps: BrokerDeps, use: RotationUse): Promise<void> {
  const { rotation, secret } = use;
  if (rotation.by === "upstream" || !(await deps.nextVersions.isWaiting(secret))) return;
  const held = await deps.oneAtATime.acquire([secret]);
  try {
    if (!(await deps.nextVersions.isWaiting(secret))) return;
    const task: RotationTask = { by: "ephor", use, id: idOf(deps), why: "left_behind" };
    const opened = await openBoth(deps, task);
    try {
      if (rotation.by === "us") await settle(deps, { task, rotation, opened });
      else await endWhatWaits(deps, { task, rotation, opened });
    } finally {
      opened.wipe();
    }
  } finally {
    await held.release();
  }
}

async function byUs(deps: BrokerDeps, task: RotationTask, held: Held): Promise<void> {
  const rotation = task.use.rotation as RotationByUs<unknown>;
  await afterSettling(deps, task, {
    settle: (opened) => settle(deps, { task, rotation, opened }),
    replace: (opened) => replace(deps, { task, rotation, opened, held }),
  });
}

async function beside(deps: BrokerDeps, task: RotationTask, held: Held): Promise<void> {
  const rotation = task.use.rotation as RotationBeside<unknown>;
  await afterSettling(deps, task, {
    settle: (opened) => endWhatWaits(deps, { task, rotation, opened }),
    replace: (opened) => besideThePresent(deps, { task, rotation, opened, held }),
  });
}

/** What somebody left behind comes first. */
async function afterSettling(
  deps: BrokerDeps,
  task: RotationTask,
  work: { settle(opened: OpenedBoth): Promise<unknown>; replace(opened: OpenedBoth): Promise<void> },
): Promise<void> {
  const left = await openBoth(deps, task);
  let opened = left;
  try {
    if (left.waiting) {
      await work.settle(left);
      // What counts now may be the other one.
      opened = await openBoth(deps, task);
    }
    await work.replace(opened);
  } finally {
    left.wipe();
    opened.wipe();
  }
}

async function replace(
  deps: BrokerDeps,
  at: { task: RotationTask; rotation: RotationByUs<unknown>; opened: OpenedBoth; held: Held },
): Promise<void> {
  const { task, rotation, held } = at;
  const { order, present } = at.opened;
  const next = rotation.next(order);
  const version = await sealed(next, (value) => deps.nextVersions.hold({ name: task.use.secret, value, by: task.by }));
  if (version === undefined) throw overtaken();
  const opened = { ...at.opened, waiting: { value: next, version } };
  try {
    await held.check();
    await rotation.change({ ...order, next }, AbortSignal.timeout(STEP_LIMIT_MS));
  } catch (error) {
    // It may have been changed all the same: an answer was lost.
    if ((await settle(deps, { task, rotation, opened, error })) === "next") return;
    throw error;
  }
  if (await ended(deps, task, { version, counts: true })) return;
  // Somebody set a value meanwhile: what they knew of is what the upstream had before.
  await rotation
    .change(
      { ...order, secrets: new Map([...order.secrets, [task.use.secret, next]]), next: present },
      AbortSignal.timeout(STEP_LIMIT_MS),
    )
    .catch((err: unknown) => deps.log.warn("rotation_not_undone", { resource: task.use.resource, err }));
  throw overtaken();
}

/** Asks the upstream which of the two counts, and has it so. Where it says neither, both are kept. */
async function settle(
  deps: BrokerDeps,
  at: { task: RotationTask; rotation: RotationByUs<unknown>; opened: OpenedBoth; error?: unknown },
): Promise<"present" | "next"> {
  const { task, rotation, opened, error } = at;
  if (!opened.waiting) return "present";
  const { value, version } = opened.waiting;
  const answer = await rotation
    .which({ ...opened.order, next: value }, AbortSignal.timeout(STEP_LIMIT_MS))
    // What went wrong first tells more.
    .catch((unknown: unknown) => {
      throw error ?? unknown;
    });
  if (answer === undefined) throw error ?? new ProviderError("credentials_refused", { code: "neither_is_let_in" });
  await ended(deps, task, { version, counts: answer === "next", error });
  return answer;
}

/** A lost answer loses the access, as at every refresh: there is nothing that could be sealed before. */
async function byUpstream(deps: BrokerDeps, task: RotationTask, held: Held): Promise<void> {
  const rotation = task.use.rotation as RotationByUpstream<unknown>;
  const { secret } = task.use;
  const opened = await openSecrets(deps, await permitsFor(deps, task));
  try {
    await held.check();
    const order = orderOf(deps, task, opened.texts);
    const next = await rotation.exchange(order, AbortSignal.timeout(STEP_LIMIT_MS));
    const event = deps.recorder.draft(rotationEvent(task, { outcome: "rotated" }), "noted");
    await sealed(next, (value) => deps.secrets.put({ name: secret, value, by: task.by, event }));
  } finally {
    opened.wipe();
  }
}
