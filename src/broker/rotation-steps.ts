/** What rotations of every kind are made of. */
import { ProblemError } from "../api/problem.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { ulid } from "../system/random.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import type { BrokerDeps } from "./deps.ts";
import { openSecrets, textOf } from "./opened-secrets.ts";
import type { RotationOrder } from "./provider.ts";
import { permitsFor, problemOf, rotationEvent } from "./rotation-record.ts";
import type { RotationTask } from "./rotation-record.ts";
import type { SecretText } from "./secret-text.ts";
import { upstreamFor } from "./web-identity.ts";

/** Longest that one step at the upstream may take, in milliseconds. */
export const STEP_LIMIT_MS = 20_000;

/** The present value, and the one that waits where there is one. */
export interface OpenedBoth {
  readonly order: RotationOrder<unknown>;
  readonly present: SecretText;
  readonly waiting: { readonly value: SecretText; readonly version: number } | undefined;
  wipe(): void;
}

/** Decided and recorded; the permits open everything that the rotation takes. */
export async function openBoth(deps: BrokerDeps, task: RotationTask): Promise<OpenedBoth> {
  const { secret } = task.use;
  const permits = new Map(await permitsFor(deps, task));
  const permit = permits.get(secret);
  if (!permit) throw new TemporarilyUnavailableError({ reason: "internal" });
  permits.delete(secret);
  const { present, waiting } = await deps.nextVersions.open(permit, secret);
  const wipe = (): void => {
    present.value.wipe();
    waiting?.value.wipe();
  };
  const others = await openSecrets(deps, permits).catch((error: unknown) => {
    wipe();
    throw error;
  });
  const text = textOf(present.value);
  return {
    order: orderOf(deps, task, new Map([...others.texts, [secret, text]])),
    present: text,
    waiting: waiting && { value: textOf(waiting.value), version: waiting.version },
    wipe() {
      others.wipe();
      wipe();
    },
  };
}

/**
 * The end of a version's wait, on the ledger in the same step.
 *
 * @param at.outcome what the ledger has of it; by default `rotated` or `as it was`
 * @returns false when the version does not wait any more
 */
export function ended(
  deps: BrokerDeps,
  task: RotationTask,
  at: { version: number; counts: boolean; error?: unknown; outcome?: string },
): Promise<boolean> {
  const { version, counts, error, outcome = counts ? "rotated" : "as it was" } = at;
  const facts = { version, outcome, ...problemOf(error) };
  const event = deps.recorder.draft(rotationEvent(task, facts), "noted");
  return deps.nextVersions.settle({ name: task.use.secret, version, counts, by: task.by, event });
}

/** Does something with a text as bytes, and wipes them. */
export async function sealed<T>(text: SecretText, work: (value: SecretBytes) => Promise<T>): Promise<T> {
  const value = text.use((plain) => SecretBytes.fromText(plain));
  try {
    return await work(value);
  } finally {
    value.wipe();
  }
}

/** What the provider gets. */
export function orderOf(
  deps: BrokerDeps,
  task: RotationTask,
  secrets: ReadonlyMap<string, SecretText>,
): RotationOrder<unknown> {
  const { use, id, by } = task;
  const upstream = upstreamFor(deps, { lease: { id, resource: use.resource }, actor: by });
  return { settings: use.settings, secret: use.secret, secrets, upstream };
}

/** A name for a rotation. */
export function idOf(deps: BrokerDeps): string {
  return `rotation_${ulid(deps.clock.nowMs())}`;
}

/** An operator set a value while ours was made. */
export function overtaken(): ProblemError {
  return new ProblemError("conflict", { detail: "another value was set meanwhile; that one counts" });
}
