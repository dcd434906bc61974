import { z } from "zod";
import { CANARY_PROVIDER } from "../../core/trust/canary.ts";
import { randomToken } from "../../system/random.ts";
import type { CredentialProvider } from "../provider.ts";

const settings = z.strictObject({});

/**
 * What the canary is vended: a value that opens nothing, so that a turn passes through all that a vend does and touches no upstream.
 * The trust file cannot name it.
 */
export function createCanaryProvider(): CredentialProvider<z.infer<typeof settings>> {
  return {
    kind: CANARY_PROVIDER,
    settings,
    secrets: () => [],
    residualSeconds: () => 0,
    mint: () => Promise.resolve({ credential: { value: randomToken(16) }, handle: {}, marks: [] }),
  };
}
