/** Keys as OpenSSH writes them: the authority's, which is read, and the agent's, which is made. */
import { createPrivateKey, createPublicKey, sign, type JsonWebKey, type KeyObject } from "node:crypto";
import { makeKeyPair } from "../../system/key-pair.ts";
import { randomBytes } from "../../system/random.ts";
import { ProviderError } from "../provider-error.ts";
import { mpint, SshReader, sshString, sshStrings, uint32 } from "./ssh-wire.ts";

const ED25519 = "ssh-ed25519";
const ECDSA = "ecdsa-sha2-nistp256";
const RSA = "ssh-rsa";

/** Shorter ones are refused by OpenSSH as well. */
const RSA_MIN_BITS = 2048;

/** File format of OpenSSH's private keys (PROTOCOL.key). */
const MAGIC = "openssh-key-v1\0";
const PEM_BEGIN = "-----BEGIN OPENSSH PRIVATE KEY-----";
const PEM_END = "-----END OPENSSH PRIVATE KEY-----";
/** Characters of a line, and the block of an unencrypted file. */
const PEM_LINE = 70;
const PADDING_BLOCK = 8;

/** A key that signs certificates. */
export interface Authority {
  /** As it stands in certificates and, in base64, in files. */
  readonly publicKey: Buffer;
  /** The signature with the name of its algorithm, as SSH carries it. */
  sign(data: Uint8Array): Buffer;
}

/** A key pair of an agent, of one lease. */
export interface AgentKey {
  /** 32 bytes. */
  readonly publicKey: Buffer;
  /** `ssh-ed25519 AAAA…`, without a comment. */
  readonly publicLine: string;
  /** A file as `ssh-keygen` writes it, without a passphrase. */
  readonly privateFile: string;
}

/**
 * Reads the authority's private key: Ed25519, ECDSA P-256 or RSA from 2048 bits, in OpenSSH's format or PKCS #8, without
 * a passphrase.
 *
 * @throws {ProviderError} `secret_malformed` for anything else
 */
export function readAuthority(text: string): Authority {
  const key = readPrivateKey(text);
  const jwk = createPublicKey(key).export({ format: "jwk" });
  switch (key.asymmetricKeyType) {
    case "ed25519":
      return {
        publicKey: sshStrings([ED25519, member(jwk, "x")]),
        sign: (data) => sshStrings([ED25519, sign(null, data, key)]),
      };
    case "ec": {
      if (jwk.crv !== "P-256") break;
      const point = Buffer.concat([Buffer.of(4), member(jwk, "x"), member(jwk, "y")]);
      return {
        publicKey: sshStrings([ECDSA, "nistp256", point]),
        sign(data) {
          const raw = sign("sha256", data, { key, dsaEncoding: "ieee-p1363" });
          // RFC 5656 §3.1.2
          return sshStrings([ECDSA, Buffer.concat([mpint(raw.subarray(0, 32)), mpint(raw.subarray(32))])]);
        },
      };
    }
    case "rsa":
      if ((key.asymmetricKeyDetails?.modulusLength ?? 0) < RSA_MIN_BITS) break;
      return {
        publicKey: Buffer.concat([sshString(RSA), mpint(member(jwk, "e")), mpint(member(jwk, "n"))]),
        // RFC 8332 §3: the key keeps its old name, the signature must not.
        sign: (data) => sshStrings(["rsa-sha2-512", sign("sha512", data, key)]),
      };
    default:
  }
  throw new ProviderError("secret_malformed");
}

/** Makes an Ed25519 key pair. */
export function makeAgentKey(comment: string): AgentKey {
  const jwk = makeKeyPair("Ed25519").privateKey.export({ format: "jwk" });
  const [publicKey, seed] = [member(jwk, "x"), member(jwk, "d")];
  const blob = sshStrings([ED25519, publicKey]);
  const check = randomBytes(4);
  const inner = Buffer.concat([
    check,
    check,
    sshStrings([ED25519, publicKey, Buffer.concat([seed, publicKey]), comment]),
  ]);
  // 1, 2, 3, … up to the block.
  const padding = Buffer.from(Array.from({ length: -inner.length & (PADDING_BLOCK - 1) }, (_, index) => index + 1));
  const file = Buffer.concat([
    Buffer.from(MAGIC),
    sshStrings(["none", "none", ""]),
    uint32(1),
    sshStrings([blob, Buffer.concat([inner, padding])]),
  ]);
  const lines = file.toString("base64").match(new RegExp(`.{1,${PEM_LINE}}`, "g")) ?? [];
  return {
    publicKey,
    publicLine: `${ED25519} ${blob.toString("base64")}`,
    privateFile: [PEM_BEGIN, ...lines, PEM_END, ""].join("\n"),
  };
}

/** Never lets an error of the parser out: it could quote the key. */
function readPrivateKey(text: string): KeyObject {
  try {
    const pem = text.trim();
    return pem.startsWith(PEM_BEGIN) ? readOpenSshKey(pem) : createPrivateKey(pem);
  } catch {
    throw new ProviderError("secret_malformed");
  }
}

/** @see OpenSSH PROTOCOL.key */
function readOpenSshKey(pem: string): KeyObject {
  if (!pem.endsWith(PEM_END)) throw new RangeError("ssh: no end line");
  const reader = new SshReader(Buffer.from(pem.slice(PEM_BEGIN.length, -PEM_END.length), "base64"));
  if (reader.take(MAGIC.length).toString("latin1") !== MAGIC) throw new RangeError("ssh: not a key file");
  const [cipher, kdf] = [reader.text(), reader.text()];
  reader.string();
  // With a passphrase nobody could use it here.
  if (cipher !== "none" || kdf !== "none" || reader.uint32() !== 1) throw new RangeError("ssh: encrypted, or several");
  reader.string();
  const inner = new SshReader(reader.string());
  if (inner.uint32() !== inner.uint32()) throw new RangeError("ssh: check numbers differ");
  return createPrivateKey({ key: readKeyMembers(inner), format: "jwk" });
}

function readKeyMembers(reader: SshReader): JsonWebKey {
  switch (reader.text()) {
    case ED25519: {
      const x = reader.string();
      return { kty: "OKP", crv: "Ed25519", x: base64url(x), d: base64url(reader.string().subarray(0, 32)) };
    }
    case ECDSA: {
      const curve = reader.text();
      const point = reader.string();
      if (curve !== "nistp256" || point.length !== 65 || point[0] !== 4)
        throw new RangeError("ssh: not a point of P-256");
      const d = Buffer.concat([Buffer.alloc(32), reader.mpint()]).subarray(-32);
      return {
        kty: "EC",
        crv: "P-256",
        x: base64url(point.subarray(1, 33)),
        y: base64url(point.subarray(33)),
        d: base64url(d),
      };
    }
    case RSA: {
      const [n, e, d] = [reader.mpint(), reader.mpint(), reader.mpint()];
      const [qi, p, q] = [reader.mpint(), reader.mpint(), reader.mpint()];
      const [dp, dq] = [remainder(d, p), remainder(d, q)];
      const all = { n, e, d, p, q, dp, dq, qi };
      return {
        kty: "RSA",
        ...Object.fromEntries(Object.entries(all).map(([name, bytes]) => [name, base64url(bytes)])),
      };
    }
    default:
      throw new RangeError("ssh: unknown kind of key");
  }
}

/** `d mod (prime - 1)`, which OpenSSH leaves out and RFC 8017 §3.2 wants. */
function remainder(d: Buffer, prime: Buffer): Buffer {
  const rest = toNumber(d) % (toNumber(prime) - 1n);
  const hex = rest.toString(16);
  return Buffer.from(hex.padStart(hex.length + (hex.length % 2), "0"), "hex");
}

function toNumber(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString("hex") || "0"}`);
}

function base64url(bytes: Buffer): string {
  return bytes.toString("base64url");
}

function member(jwk: JsonWebKey, name: "x" | "y" | "d" | "n" | "e"): Buffer {
  return Buffer.from(jwk[name] ?? "", "base64url");
}
