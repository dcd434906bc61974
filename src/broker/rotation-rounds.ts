import type { BrokerDeps } from "./deps.ts";
import { rotateSecret, settleLeftBehind } from "./rotation.ts";
import { rotationUse } from "./rotation-use.ts";

/** A rotation takes less, in milliseconds: a version that has waited longer was left behind. */
const LEFT_BEHIND_MS = 60_000;
/** After each look at a secret it is left alone for this, in milliseconds: what failed, too. */
const LOOK_AGAIN_MS = 3_600_000;

/**
 * What is to be done again and again, by any number of replicas: rotations that were left behind are settled, and secrets whose
 * time has come are replaced. What fails holds up nothing else.
 */
export function createRotationRounds(deps: BrokerDeps): () => Promise<void> {
  const notBefore = new Map<string, number>();
  const settleNotBefore = new Map<string, number>();
  let due: { readonly trustVersion: number; readonly every: ReadonlyMap<string, number> } | undefined;
  return async () => {
    await settleAllLeftBehind(deps, settleNotBefore);
    const trustVersion = deps.trust().version;
    if (due?.trustVersion !== trustVersion) due = { trustVersion, every: everySeconds(deps) };
    for (const [secret, seconds] of due.every) {
      const now = deps.clock.nowMs();
      if ((notBefore.get(secret) ?? 0) > now) continue;
      notBefore.set(secret, now + LOOK_AGAIN_MS);
      const facts = await deps.secrets.describe(secret);
      const at = facts && facts.updatedAt + seconds * 1_000;
      if (at === undefined) continue;
      if (at > now) notBefore.set(secret, Math.min(at, now + LOOK_AGAIN_MS));
      else await rotated(deps, secret, seconds);
    }
  };
}

/** Both outcomes are on the ledger. */
async function rotated(deps: BrokerDeps, secret: string, dueSeconds: number): Promise<void> {
  await rotateSecret(deps, secret, { by: "ephor", dueSeconds }).catch((err: unknown) =>
    deps.log.warn("rotation_not_done", { name: secret, err }),
  );
}

/** Secrets that are to be replaced by themselves; of several resources the most frequent one counts. */
function everySeconds({ kinds, trust }: BrokerDeps): ReadonlyMap<string, number> {
  const every = new Map<string, number>();
  for (const resource of trust().all().resources) {
    if (resource.kind !== "credential") continue;
    const provider = kinds.get(resource.provider);
    if (provider?.rotation?.everySeconds === undefined) continue;
    const settings = provider.settings.safeParse(resource.settings);
    const seconds = settings.success ? provider.rotation.everySeconds(settings.data) : undefined;
    if (!settings.success || seconds === undefined) continue;
    for (const secret of provider.secrets(settings.data)) {
      if (!provider.rotation.covers(settings.data, secret)) continue;
      every.set(secret, Math.min(seconds, every.get(secret) ?? seconds));
    }
  }
  return every;
}

/** @param notBefore of each secret that was tried: an upstream that stays away is asked once a minute */
async function settleAllLeftBehind(deps: BrokerDeps, notBefore: Map<string, number>): Promise<void> {
  for (const secret of await deps.nextVersions.waitingSince(deps.clock.nowMs() - LEFT_BEHIND_MS)) {
    const now = deps.clock.nowMs();
    if ((notBefore.get(secret) ?? 0) > now) continue;
    notBefore.set(secret, now + LEFT_BEHIND_MS);
    const choice = rotationUse(deps, secret);
    // Without a resource nothing says where to ask; the operator's next value ends the wait.
    if ("no" in choice) continue;
    await settleLeftBehind(deps, choice.use).catch((err: unknown) =>
      deps.log.warn("rotation_not_settled", { resource: choice.use.resource, err }),
    );
  }
}
