import { JsonError, readJson } from "../core/token/json.ts";
import { EgressError } from "../system/egress-error.ts";
import type { Egress } from "../system/egress.ts";
import type { RootWrapper } from "./kek-root.ts";
import { KekRefusedError } from "./kek-text.ts";

/** Bounds of one call: the start waits for it. */
const LIMITS = { timeoutMs: 8_000, answerBytes: 64 * 1024 } as const;
/** Authenticated with the ciphertext: one of another purpose of the same key does not open here. */
const PURPOSE = Buffer.from("ephor root key").toString("base64");
const DEFAULT_MOUNT = "transit";

/**
 * The transit engine of HashiCorp Vault or OpenBao as the wrapper of the root key. The key there must be one that takes
 * associated data: aes128-gcm96, aes256-gcm96 (the default) or chacha20-poly1305.
 *
 * @param o.url the server, with the engine's mount as path where that is not `transit`
 * @param o.token of a policy with `update` on `<mount>/encrypt/<key>` and `<mount>/decrypt/<key>`
 * @see https://developer.hashicorp.com/vault/api-docs/secret/transit#encrypt-data
 */
export function vaultTransitWrapper(o: {
  readonly url: string;
  readonly key: string;
  readonly token: () => string;
  readonly namespace?: string | undefined;
  readonly egress: Egress;
}): RootWrapper {
  const source = `vault-transit:${o.url}#${o.key}`;
  const { origin, pathname } = new URL(o.url);
  const mount = pathname.replace(/^\/+|\/+$/g, "") || DEFAULT_MOUNT;

  async function call(action: "encrypt" | "decrypt", input: object): Promise<Readonly<Record<string, unknown>>> {
    const { status, body } = await o.egress
      .send({
        method: "POST",
        url: `${origin}/v1/${mount}/${action}/${encodeURIComponent(o.key)}`,
        headers: {
          "content-type": "application/json",
          "x-vault-request": "true",
          "x-vault-token": o.token(),
          ...(o.namespace !== undefined && { "x-vault-namespace": o.namespace }),
        },
        body: JSON.stringify({ ...input, associated_data: PURPOSE }),
        // It usually is inside; the operator named it.
        internal: true,
        timeoutMs: LIMITS.timeoutMs,
        maxBytes: LIMITS.answerBytes,
      })
      .catch((error: unknown) => {
        if (!(error instanceof EgressError)) throw error;
        throw new KekRefusedError("unreachable", `kek: ${source} could not be asked (${error.kind})`);
      });
    if (status === 200) return dataOf(body);
    // 503 is a sealed Vault, 473 a standby, 403 a token that may not; its words can quote what was sent.
    throw new KekRefusedError(
      status >= 470 || status === 429 ? "unreachable" : "refused",
      `kek: ${source} answered ${status}; the token must be good and may encrypt and decrypt with that key`,
    );
  }

  return {
    source,
    async wrap(root) {
      const { ciphertext } = await call("encrypt", { plaintext: Buffer.from(root).toString("base64") });
      if (typeof ciphertext !== "string") throw new KekRefusedError("refused", `kek: ${source} answered no ciphertext`);
      return ciphertext;
    },
    async unwrap(wrapped) {
      const { plaintext } = await call("decrypt", { ciphertext: wrapped });
      if (typeof plaintext !== "string") throw new KekRefusedError("refused", `kek: ${source} answered no key`);
      return new Uint8Array(Buffer.from(plaintext, "base64"));
    },
  };
}

function dataOf(body: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const value = readJson(body) as { data?: unknown } | null;
    const data = value?.data;
    return typeof data === "object" && data !== null ? (data as Record<string, unknown>) : {};
  } catch (error) {
    if (error instanceof JsonError) return {};
    throw error;
  }
}
