import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from "node:crypto";

/** The other side does not keep to SCRAM, or does not know the password's verifier. */
export class ScramError extends Error {
  override readonly name = "ScramError";
}

/** More would only burn our time: PostgreSQL's own default is 4,096. */
const MAX_ITERATIONS = 1_000_000;
const GS2_HEADER = "n,,";

/** One run of SCRAM-SHA-256 as a client, without channel binding. */
export interface ScramClient {
  readonly first: string;
  /** @param serverFirst the server's first message @throws {ScramError} */
  final(serverFirst: string): string;
  /** @throws {ScramError} the server does not know the password */
  check(serverFinal: string): void;
}

/**
 * @param password as it was made by the broker: printable ASCII, so that SASLprep leaves it alone
 * @see RFC 5802 §3 and §5, RFC 7677
 */
export function createScramClient(password: string): ScramClient {
  const nonce = randomBytes(18).toString("base64");
  const firstBare = `n=,r=${nonce}`;
  let expected: Buffer | undefined;
  return {
    first: GS2_HEADER + firstBare,
    final(serverFirst) {
      const [, serverNonce = "", salt = "", count = ""] =
        /^r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=(\d+)$/.exec(serverFirst) ?? [];
      const iterations = Number(count);
      if (!serverNonce.startsWith(nonce) || serverNonce === nonce || iterations < 1 || iterations > MAX_ITERATIONS)
        throw new ScramError("the server's first message");
      const salted = pbkdf2Sync(password, Buffer.from(salt, "base64"), iterations, 32, "sha256");
      const clientKey = hmac(salted, "Client Key");
      const withoutProof = `c=${Buffer.from(GS2_HEADER).toString("base64")},r=${serverNonce}`;
      const message = `${firstBare},${serverFirst},${withoutProof}`;
      const signature = hmac(createHash("sha256").update(clientKey).digest(), message);
      const proof = Buffer.from(clientKey.map((byte, at) => byte ^ (signature[at] as number)));
      expected = hmac(hmac(salted, "Server Key"), message);
      return `${withoutProof},p=${proof.toString("base64")}`;
    },
    check(serverFinal) {
      const given = Buffer.from(/^v=([A-Za-z0-9+/=]+)$/.exec(serverFinal)?.[1] ?? "", "base64");
      if (expected === undefined || given.length !== expected.length || !timingSafeEqual(given, expected))
        throw new ScramError("the server's signature");
    },
  };
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
