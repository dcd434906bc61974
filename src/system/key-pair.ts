import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type ED25519KeyPairOptions,
  type KeyObject,
} from "node:crypto";

/** A private key and its public one. */
export interface KeyPair {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** What `generateKeyPairSync` gives instead of key objects. */
const ENCODED: ED25519KeyPairOptions<"der", "der"> = {
  privateKeyEncoding: { type: "pkcs8", format: "der" },
  publicKeyEncoding: { type: "spki", format: "der" },
};

/**
 * Makes a key pair at once, P-256 or Ed25519.
 *
 * A key object that `generateKeyPairSync` itself gave shares a lock with the job that made it. Node (20.20) holds that lock while
 * it exports the key, and takes it again where the garbage collector happens to run then and ends the job: the process stands
 * still for ever. So the keys here are read anew, from bytes.
 */
export function makeKeyPair(type: "P-256" | "Ed25519"): KeyPair {
  const { privateKey: der } =
    type === "P-256"
      ? generateKeyPairSync("ec", { namedCurve: "P-256", ...ENCODED })
      : generateKeyPairSync("ed25519", ENCODED);
  try {
    const privateKey = createPrivateKey({ key: der, type: "pkcs8", format: "der" });
    return { privateKey, publicKey: createPublicKey(privateKey) };
  } finally {
    der.fill(0);
  }
}
