import { setTimeout as pause } from "node:timers/promises";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Resource } from "../core/trust/model.ts";
import type { BrokerDeps } from "./deps.ts";
import { ProviderError } from "./provider-error.ts";
import { settleLeftBehind } from "./rotation.ts";
import { rotationUseOf } from "./rotation-use.ts";
import { vend, type Vended } from "./vend.ts";

/** A rotation is over by then, as a rule: looked for this often, in milliseconds, before anybody queues for its lock. */
const LOOKS = { count: 20, everyMs: 50 };
/** A vend that was refused by a version that was replaced so lately had opened the one before, in milliseconds. */
const LATELY_MS = 60_000;

/**
 * Vends; and once more where the upstream refused a secret that was being replaced, by whoever and wherever.
 *
 * @throws as {@link vend}
 */
export async function vendThroughRotation(deps: BrokerDeps, request: Parameters<typeof vend>[1]): Promise<Vended> {
  try {
    return await vend(deps, request);
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    const isRefused = cause instanceof ProviderError && cause.problem === "credentials_refused";
    if (!isRefused || !(await isReplaced(deps, request.resource))) throw error;
    return vend(deps, { ...request, holder: { ...request.holder, hasSpent: true } });
  }
}

/**
 * Whether one of the resource's secrets is another than it was a moment ago; a rotation that is under way is waited for.
 *
 * @throws {TemporarilyUnavailableError} `upstream_unavailable` while nobody can say which value counts
 */
async function isReplaced(deps: BrokerDeps, resource: Parameters<typeof vend>[1]["resource"]): Promise<boolean> {
  try {
    for (const secret of secretsOf(deps, resource)) {
      const use = rotationUseOf(deps, secret, resource);
      if (use === undefined || use.rotation.by === "upstream") continue;
      for (let look = 0; look < LOOKS.count && (await deps.nextVersions.isWaiting(secret)); look++)
        await pause(LOOKS.everyMs);
      await settleLeftBehind(deps, use);
      const facts = await deps.secrets.describe(secret);
      if (facts && facts.updatedAt >= deps.clock.nowMs() - LATELY_MS) return true;
    }
  } catch (err: unknown) {
    deps.log.warn("rotation_not_settled", { resource: resource.name, err });
    if (err instanceof ProviderError && !err.isTransient) return false;
    throw new TemporarilyUnavailableError({ reason: "upstream_unavailable", resource: resource.name }, { cause: err });
  }
  return false;
}

function secretsOf(deps: BrokerDeps, resource: Extract<Resource, { kind: "credential" }>): readonly string[] {
  const provider = deps.kinds.get(resource.provider);
  const settings = provider?.settings.safeParse(resource.settings);
  return provider && settings?.success ? provider.secrets(settings.data) : [];
}
