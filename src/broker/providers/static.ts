import { z } from "zod";
import { nameValue, textValue } from "../../core/trust/values.ts";
import { ProviderError } from "../provider-error.ts";
import type { CredentialProvider } from "../provider.ts";

const settingsValue = z.strictObject({
  /** The vault's secret whose value is handed out. */
  secret: nameValue,
  /** Says aloud that agents will hold this value; without it the resource is refused (CONTRACT §7). */
  disclose: z.literal(true, { error: "must be true: this kind hands the secret's own value to agents" }),
  /** Handed out beside the value, for tools that log in with both. */
  username: textValue.optional(),
});

/** Settings of `credential: { static: … }`, as the trust file writes them. */
export type StaticSettings = z.infer<typeof settingsValue>;

/**
 * Hands out a stored value as it is. It asks no upstream, so nothing ends the value but a rotation of the secret: there is
 * no `destroy`, no mark (a SHA-256 of a weak password would give it away), and `residualSeconds` is `Infinity`, which only a
 * grant with `residual: unlimited` covers. The credential: `{ value, username? }`.
 *
 * `mint` throws {@link ProviderError} `secret_malformed` when the secret was not opened for it or is empty.
 */
export function createStaticProvider(): CredentialProvider<StaticSettings> {
  return {
    kind: "static",
    settings: settingsValue,
    secrets: ({ secret }) => [secret],
    residualSeconds: () => Number.POSITIVE_INFINITY,
    mint({ settings, secrets }) {
      const value = secrets.get(settings.secret)?.use((text) => text) ?? "";
      if (value === "") return Promise.reject(new ProviderError("secret_malformed"));
      const credential = { value, ...(settings.username !== undefined && { username: settings.username }) };
      return Promise.resolve({ credential, handle: {}, marks: [] });
    },
  };
}
