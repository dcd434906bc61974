import type { Permit } from "../core/permit.ts";
import { leaseAuthor } from "../vault/given-anew.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import type { BrokerDeps } from "./deps.ts";
import type { LeaseFacts, RotatedSecret } from "./provider.ts";
import type { SecretText } from "./secret-text.ts";

/** Secrets that are open for one call. */
export interface OpenedSecrets {
  readonly texts: ReadonlyMap<string, SecretText>;
  /** Overwrites them; to be called whatever happened. */
  wipe(): void;
}

/**
 * Opens what a provider needs, one permit each.
 *
 * @throws {SecretMissingError | DecryptError | TemporarilyUnavailableError}
 */
export async function openSecrets(deps: BrokerDeps, permits: ReadonlyMap<string, Permit>): Promise<OpenedSecrets> {
  const held: SecretBytes[] = [];
  const wipe = (): void => held.forEach((bytes) => bytes.wipe());
  try {
    const texts = new Map<string, SecretText>();
    for (const [name, permit] of permits) {
      const { value } = await deps.secrets.open(permit, name);
      held.push(value);
      texts.set(name, textOf(value));
    }
    return { texts, wipe };
  } catch (error) {
    wipe();
    throw error;
  }
}

/** A provider's view of a value that is open. */
export function textOf(value: SecretBytes): SecretText {
  return { use: (fn) => value.use((bytes) => fn(Buffer.from(bytes).toString("utf8"))) };
}

/** Keeps what an upstream gave in place of a secret; without it the next mint would fail. */
export async function storeRotated(deps: BrokerDeps, rotated: RotatedSecret, lease: LeaseFacts): Promise<void> {
  const value = rotated.value.use((text) => SecretBytes.fromText(text));
  try {
    const event = deps.recorder.draft(
      {
        type: "secret.set",
        agent: lease.agent,
        txn: lease.txn,
        facts: { secret: rotated.secret, lease: lease.id, why: "rotated by the upstream" },
      },
      "granted",
    );
    await deps.secrets.put({ name: rotated.secret, value, by: leaseAuthor(lease.id), event });
  } finally {
    value.wipe();
  }
}
