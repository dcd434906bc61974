import { createHash, createHmac } from "node:crypto";
import { SignatureV4 } from "@smithy/signature-v4";

/** Keys that sign a request. */
export interface AwsSigningKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/**
 * Signs a POST to a service of AWS by Signature Version 4, as of now by this machine's clock.
 *
 * @returns all headers to be sent
 * @see IAM User Guide, "Create a signed AWS API request"
 */
export async function signedAwsHeaders(request: {
  readonly service: string;
  readonly region: string;
  readonly keys: AwsSigningKeys;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}): Promise<Readonly<Record<string, string>>> {
  const { service, region, keys, url, headers, body } = request;
  const signer = new SignatureV4({ service, region, credentials: keys, sha256: Sha256 });
  const signed = await signer.sign({
    method: "POST",
    protocol: url.protocol,
    hostname: url.hostname,
    ...(url.port !== "" && { port: Number(url.port) }),
    path: url.pathname,
    headers: { host: url.host, ...headers },
    body,
  });
  return signed.headers;
}

/** Node's own SHA-256, in the form that the signer takes: with a key it is an HMAC. */
class Sha256 {
  readonly #hash;

  constructor(secret?: unknown) {
    this.#hash = secret === undefined ? createHash("sha256") : createHmac("sha256", secret as string | Uint8Array);
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(data as string | Uint8Array);
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }

  reset(): void {}
}
