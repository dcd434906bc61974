import { createHash, createHmac } from "node:crypto";
import { SignatureV4 } from "@smithy/signature-v4";

/** Keys that sign a request. */
export interface AwsSigningKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** A request as it will be sent. */
export interface AwsRequest {
  /** The signing name. */
  readonly service: string;
  readonly region: string;
  readonly keys: AwsSigningKeys;
  /** Without its query. */
  readonly url: URL;
  /** By default POST. */
  readonly method?: string;
  /** Decoded; as sent, each is encoded by {@link awsEncoded}. */
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
  /** To be signed; lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** `unsigned`: it flows, and only S3 takes that. */
  readonly body: string | Uint8Array | undefined | { readonly unsigned: true };
  /** Milliseconds since the epoch; by default this machine's clock. */
  readonly atMs?: number;
}

/** Services that sign a path as it is sent; all others sign it encoded once more. */
const PATH_AS_SENT: ReadonlySet<string> = new Set(["s3", "s3-object-lambda", "s3-outposts", "s3express"]);

/**
 * Signs a request to a service of AWS by Signature Version 4.
 *
 * @returns all headers that were signed, and what the signature adds
 * @see IAM User Guide, "Create a signed AWS API request"
 */
export async function signedAwsHeaders(request: AwsRequest): Promise<Readonly<Record<string, string>>> {
  const { service, region, keys, url, method = "POST", query = {}, headers, body, atMs } = request;
  const isUnsigned = typeof body === "object" && "unsigned" in body;
  const signer = new SignatureV4({
    service,
    region,
    credentials: keys,
    sha256: Sha256,
    uriEscapePath: !PATH_AS_SENT.has(service),
  });
  const signed = await signer.sign(
    {
      method,
      protocol: url.protocol,
      hostname: url.hostname,
      ...(url.port !== "" && { port: Number(url.port) }),
      path: url.pathname,
      query: query as Record<string, string | string[]>,
      headers: { host: url.host, ...headers, ...(isUnsigned && { "x-amz-content-sha256": "UNSIGNED-PAYLOAD" }) },
      ...(isUnsigned ? {} : { body }),
    },
    atMs === undefined ? {} : { signingDate: new Date(atMs) },
  );
  return signed.headers;
}

/** A name, a value or a segment of a path as AWS encodes it, so that what is sent has one spelling (RFC 3986 §2.3). */
export function awsEncoded(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
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
