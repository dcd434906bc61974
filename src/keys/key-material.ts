import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import type { JwtTyp } from "../core/oauth/vocabulary.ts";
import { thumbprintInput } from "../core/token/public-jwk.ts";
import { sha256Base64url } from "../system/hash.ts";
import { importPublicJwk } from "../system/jwk.ts";
import type { Envelope, Sealed } from "../vault/envelope.ts";
import type { Place } from "../vault/place.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import type { KeyUse, RingKey } from "./key-ring.ts";
import type { KeyRow } from "./store.ts";

/**
 * What we can sign with. ES256 by default: every verifier knows it, and RS256 costs twelve times as much to sign. Ed25519
 * keys say `EdDSA`, the name that verifiers in the field know (RFC 8037 §3.1), not yet `Ed25519` (RFC 9864).
 */
export const SIGNING_ALGORITHMS = ["ES256", "RS256", "EdDSA"] as const;

/** One of {@link SIGNING_ALGORITHMS}. */
export type SigningAlgorithm = (typeof SIGNING_ALGORITHMS)[number];

/** NIST SP 800-57: 112 bits until 2030; a token lives a minute and the key a month. */
const RSA_BITS = 2048;

/** A public key as we publish it: these members and no others (A-CLI-10). */
export interface PublishedJwk {
  readonly kty: string;
  readonly crv?: string;
  readonly x?: string;
  readonly y?: string;
  readonly n?: string;
  readonly e?: string;
  readonly kid: string;
  readonly use: "sig";
  readonly alg: SigningAlgorithm;
}

/** A key as this process holds it. */
export interface HeldKey extends RingKey {
  readonly algorithm: SigningAlgorithm;
  readonly publicJwk: PublishedJwk;
  readonly publicKey: KeyObject;
  /** Null once retired: nothing is left that could sign with it. */
  readonly privateKey: KeyObject | null;
  /** Encoded protected headers by `typ`, each made once. */
  readonly headers: Map<JwtTyp, string>;
  /** The sealed column that it came from, to know it again. */
  readonly sealedText: string;
}

/** The part of a key that comes out of the sealed column. */
type Material = Pick<HeldKey, "algorithm" | "publicJwk" | "publicKey" | "privateKey" | "retiredAtMs">;

/** What a retired key's column holds: enough to verify, authentic against whoever can write the table. */
interface RetiredKey {
  readonly publicJwk: PublishedJwk;
  readonly retiredAtMs: number;
}

/** A new key as a row, its private part sealed. */
export async function makeKey(
  envelope: Envelope,
  {
    use,
    algorithm,
    status,
    nowMs,
  }: { use: KeyUse; algorithm: SigningAlgorithm; status: "next" | "active"; nowMs: number },
): Promise<KeyRow> {
  const { publicKey, privateKey } = await generate(algorithm);
  const publicJwk = published(publicKey);
  const secret = new SecretBytes(privateKey.export({ format: "der", type: "pkcs8" }));
  try {
    return {
      kid: publicJwk.kid,
      use,
      algorithm,
      status,
      publicJwk,
      sealed: await envelope.seal(secret, privatePlace(use, publicJwk.kid)),
      createdAt: nowMs,
      activatedAt: status === "active" ? nowMs : null,
      retiredAt: null,
    };
  } finally {
    secret.wipe();
  }
}

/** The column of a key that retires: its private part is gone. */
export async function sealRetired(envelope: Envelope, key: HeldKey, retiredAtMs: number): Promise<Sealed> {
  const retired: RetiredKey = { publicJwk: key.publicJwk, retiredAtMs };
  return envelope.seal(SecretBytes.fromText(JSON.stringify(retired)), publicPlace(key.use, key.kid));
}

/**
 * A row as a key. The public part, and the time of retirement, come out of the sealed column: whoever can write the
 * table but lacks the key-encryption key can neither slip in a key nor keep a retired one working.
 *
 * @param known the same key from an earlier reading: taken over when its column did not change
 * @throws {DecryptError} `decrypt_failed`
 */
export async function openKey(envelope: Envelope, row: KeyRow, known?: HeldKey): Promise<HeldKey> {
  if (row.use === "nonce") throw new TypeError("the nonce secret is no key pair");
  const { kid, use, status, createdAt: createdAtMs, activatedAt: activatedAtMs } = row;
  const sealedText = JSON.stringify(row.sealed);
  const facts = { kid, use, status, createdAtMs, activatedAtMs, sealedText };
  if (
    known !== undefined &&
    known.sealedText === sealedText &&
    (known.status === "retired") === (status === "retired")
  ) {
    return { ...known, ...facts };
  }
  const isRetired = status === "retired";
  const opened = await envelope.open(row.sealed, placeOfKey({ use, kid, status }));
  try {
    return {
      ...facts,
      headers: new Map(),
      ...opened.use((bytes) => (isRetired ? readRetired(bytes) : readPrivate(bytes))),
    };
  } finally {
    opened.wipe();
  }
}

function readPrivate(der: Uint8Array): Material {
  const privateKey = createPrivateKey({ key: der as Buffer, format: "der", type: "pkcs8" });
  const publicKey = createPublicKey(privateKey);
  const publicJwk = published(publicKey);
  return { algorithm: publicJwk.alg, publicJwk, publicKey, privateKey, retiredAtMs: null };
}

function readRetired(json: Uint8Array): Material {
  const { publicJwk, retiredAtMs } = JSON.parse(new TextDecoder().decode(json)) as RetiredKey;
  return {
    algorithm: publicJwk.alg,
    publicJwk,
    publicKey: importPublicJwk({ ...publicJwk }),
    privateKey: null,
    retiredAtMs,
  };
}

/** Public members only, copied one by one. */
function published(publicKey: KeyObject): PublishedJwk {
  const { kty, crv, x, y, n, e } = publicKey.export({ format: "jwk" }) as Record<string, string | undefined>;
  const members = {
    kty: kty as string,
    ...(crv !== undefined && { crv }),
    ...(x !== undefined && { x }),
    ...(y !== undefined && { y }),
    ...(n !== undefined && { n }),
    ...(e !== undefined && { e }),
  };
  // RFC 7638: the name follows from the key, so no two keys can share one.
  const kid = sha256Base64url(thumbprintInput(members));
  return { ...members, kid, use: "sig", alg: ALGORITHM_OF_TYPE[members.kty] as SigningAlgorithm };
}

const ALGORITHM_OF_TYPE: Readonly<Record<string, SigningAlgorithm>> = { EC: "ES256", RSA: "RS256", OKP: "EdDSA" };

const generatePair = promisify(generateKeyPair);

async function generate(algorithm: SigningAlgorithm): Promise<{ publicKey: KeyObject; privateKey: KeyObject }> {
  if (algorithm === "ES256") return generatePair("ec", { namedCurve: "P-256" });
  if (algorithm === "RS256") return generatePair("rsa", { modulusLength: RSA_BITS });
  return generatePair("ed25519");
}

/** Where the column of a row belongs, by what it holds now. */
export function placeOfKey({ use, kid, status }: Pick<KeyRow, "kid" | "status"> & { use: KeyUse }): Place {
  return status === "retired" ? publicPlace(use, kid) : privatePlace(use, kid);
}

function privatePlace(use: KeyUse, kid: string): Place {
  return { table: "keys", row: kid, version: 1, purpose: `${use}-private-key` };
}

function publicPlace(use: KeyUse, kid: string): Place {
  return { table: "keys", row: kid, version: 2, purpose: `${use}-public-key` };
}
