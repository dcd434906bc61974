import type { Channel, ChannelKind } from "../core/trust/model.ts";
import type { SecretBytes } from "../vault/secret-bytes.ts";
import { SecretMissingError } from "../vault/secrets.ts";
import type { ChannelsDeps } from "./channels.ts";
import { withSecrets } from "./opened.ts";
import { keyOf } from "./signatures.ts";

/** A key is opened anew after this long, in milliseconds. */
const HELD_MS = 60_000;

/** Keys by which channels sign what they send. */
export interface SigningKeys {
  /**
   * Lends the key of the secret's version that counts now.
   *
   * @returns undefined where there is none, or it is no such key
   * @throws {TemporarilyUnavailableError}, {DecryptError}
   */
  use<T>(channel: Channel, read: (key: SecretBytes) => T): Promise<T | undefined>;
  close(): void;
}

interface Held {
  readonly secret: string;
  readonly kind: ChannelKind;
  readonly version: number;
  /** Undefined: this version of the secret is no key. Remembered too, or each stranger's request would open it again. */
  readonly key: SecretBytes | undefined;
  readonly untilMs: number;
}

/**
 * Anybody may send us something to check, and each opening is a row of the ledger: so a key is held for a minute. A secret that
 * was set anew or removed is seen at once, for its version is asked each time.
 */
export function createSigningKeys(deps: Pick<ChannelsDeps, "authorizer" | "trust" | "secrets" | "clock">): SigningKeys {
  const { secrets, clock } = deps;
  const held = new Map<string, Held>();
  const opening = new Map<string, Promise<void>>();

  const drop = (name: string): void => {
    held.get(name)?.key?.wipe();
    held.delete(name);
  };

  async function open({ name, kind }: Channel, secret: string, version: number): Promise<void> {
    const event = {
      type: "hook.receive" as const,
      agent: "ephor",
      facts: { channel: name, secrets: [secret], why: "to check signatures" },
    };
    const order = { action: "hook.receive" as const, target: `channel|${name}`, names: [secret], event };
    try {
      await withSecrets(deps, order, (opened) => {
        drop(name);
        const value = opened.get(secret);
        const key = value && keyOf(kind, value);
        const untilMs = clock.monotonicMs() + HELD_MS;
        held.set(name, { secret, kind, version, key, untilMs });
      });
    } catch (error) {
      if (!(error instanceof SecretMissingError)) throw error;
      drop(name);
    }
  }

  return {
    async use(channel, read) {
      const { name, kind, signingSecret: secret } = channel;
      const version = secret === undefined ? undefined : (await secrets.describe(secret))?.version;
      if (secret === undefined || version === undefined) return void drop(name);
      for (let attempt = 0; attempt < 2; attempt++) {
        const one = held.get(name);
        const fits = one?.secret === secret && one.kind === kind && one.version >= version;
        // Read in the same turn in which it was found: nobody wipes it meanwhile.
        if (one !== undefined && fits && clock.monotonicMs() < one.untilMs) return one.key && read(one.key);
        const under = opening.get(name) ?? open(channel, secret, version).finally(() => opening.delete(name));
        opening.set(name, under);
        await under;
      }
      return undefined;
    },
    close() {
      for (const name of held.keys()) drop(name);
    },
  };
}
