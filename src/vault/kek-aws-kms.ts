import { JsonError, readJson } from "../core/token/json.ts";
import { signedAwsHeaders, type AwsSigningKeys } from "../system/aws-signature.ts";
import { EgressError } from "../system/egress-error.ts";
import type { Egress } from "../system/egress.ts";
import type { RootWrapper } from "./kek-root.ts";
import { KekRefusedError } from "./kek-text.ts";

/** Bounds of one call: the start waits for it. */
const LIMITS = { timeoutMs: 8_000, answerBytes: 64 * 1024 } as const;
/** Authenticated with the ciphertext: a blob of another purpose of the same KMS key does not open here. */
const CONTEXT = { "ephor:purpose": "root-key" };

/**
 * AWS KMS as the wrapper of the root key.
 *
 * @param o.keyArn a symmetric key; its region is where it is asked
 * @param o.keys asked at each call
 * @param o.endpoint `AWS_ENDPOINT_URL_KMS`, in place of the region's
 * @see https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html
 */
export function awsKmsWrapper(o: {
  readonly keyArn: string;
  readonly keys: () => Promise<AwsSigningKeys>;
  readonly egress: Egress;
  readonly endpoint?: string | undefined;
}): RootWrapper {
  const source = `awskms:${o.keyArn}`;
  const [, partition = "aws", , region = ""] = o.keyArn.split(":");
  const suffix = partition === "aws-cn" ? "amazonaws.com.cn" : "amazonaws.com";
  const url = new URL(o.endpoint ?? `https://kms.${region}.${suffix}/`);

  async function call(action: "Encrypt" | "Decrypt", input: object): Promise<Readonly<Record<string, unknown>>> {
    const body = JSON.stringify({ KeyId: o.keyArn, EncryptionContext: CONTEXT, ...input });
    const headers = await signedAwsHeaders({
      service: "kms",
      region,
      keys: await keysOf(source, o.keys),
      url,
      headers: { "content-type": "application/x-amz-json-1.1", "x-amz-target": `TrentService.${action}` },
      body,
    });
    const { status, body: bytes } = await o.egress
      .send({
        method: "POST",
        url: url.href,
        headers,
        body,
        internal: o.endpoint !== undefined,
        timeoutMs: LIMITS.timeoutMs,
        maxBytes: LIMITS.answerBytes,
      })
      .catch((error: unknown) => {
        if (!(error instanceof EgressError)) throw error;
        throw new KekRefusedError("unreachable", `kek: ${source} could not be asked (${error.kind})`);
      });
    const answer = readAnswer(bytes);
    if (status === 200) return answer;
    // AWS's own code says what to do; its prose can quote what was sent.
    const [code = "unknown"] = /[A-Za-z]+$/.exec(String(answer["__type"] ?? "")) ?? [];
    throw new KekRefusedError(
      status >= 500 || status === 429 ? "unreachable" : "refused",
      `kek: ${source} refused (${code}); kms:Encrypt and kms:Decrypt on that key are needed`,
    );
  }

  return {
    source,
    async wrap(root) {
      const { CiphertextBlob: blob } = await call("Encrypt", { Plaintext: Buffer.from(root).toString("base64") });
      if (typeof blob !== "string") throw new KekRefusedError("refused", `kek: ${source} answered no ciphertext`);
      return blob;
    },
    async unwrap(wrapped) {
      const { Plaintext: text } = await call("Decrypt", { CiphertextBlob: wrapped });
      if (typeof text !== "string") throw new KekRefusedError("refused", `kek: ${source} answered no key`);
      return new Uint8Array(Buffer.from(text, "base64"));
    },
  };
}

async function keysOf(source: string, keys: () => Promise<AwsSigningKeys>): Promise<AwsSigningKeys> {
  try {
    return await keys();
  } catch {
    throw new KekRefusedError(
      "missing",
      `kek: no AWS credentials for ${source}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where AWS gives a role`,
    );
  }
}

function readAnswer(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const value = readJson(bytes);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch (error) {
    if (error instanceof JsonError) return {};
    throw error;
  }
}
