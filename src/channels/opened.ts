import type { Ask } from "../authz/ask.ts";
import type { EventDraft } from "../audit/event.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { SecretBytes } from "../vault/secret-bytes.ts";
import type { ChannelsDeps } from "./channels.ts";

/** What is decided and recorded before secrets open. */
export interface OpenOrder {
  readonly action: Extract<Ask["action"], "approval.notify" | "hook.receive">;
  readonly target: string;
  readonly names: readonly string[];
  readonly event: EventDraft;
}

/**
 * Opens secrets for one use, by permits of the gate: nothing opens without one, and what leaves is recorded before.
 *
 * @param use the values are wiped when it has ended
 * @throws {TemporarilyUnavailableError}, {SecretMissingError}, {DecryptError}
 */
export async function withSecrets<T>(
  deps: Pick<ChannelsDeps, "authorizer" | "trust" | "secrets">,
  { action, target, names, event }: OpenOrder,
  use: (secrets: ReadonlyMap<string, SecretBytes>) => Promise<T> | T,
): Promise<T> {
  const result = await deps.authorizer.authorize(() => {
    const trustVersion = deps.trust().version;
    return {
      value: undefined,
      ask: {
        action,
        target,
        actor: "ephor",
        trustVersion,
        kill: { keys: [], epochs: [] },
        opens: names,
        event: { ...event, facts: { trust_version: trustVersion, ...event.facts } },
      },
    };
  });
  if (result.outcome !== "granted") throw new TemporarilyUnavailableError({ reason: "internal" });
  const opened = new Map<string, SecretBytes>();
  try {
    for (const [name, permit] of result.opens) opened.set(name, (await deps.secrets.open(permit, name)).value);
    return await use(opened);
  } finally {
    for (const value of opened.values()) value.wipe();
  }
}
