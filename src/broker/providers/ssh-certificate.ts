/** User certificates of OpenSSH (PROTOCOL.certkeys), for an Ed25519 key. */
import type { EpochSeconds } from "../../core/time.ts";
import { randomBytes } from "../../system/random.ts";
import type { Authority } from "./ssh-keys.ts";
import { sshString, sshStrings, uint32, uint64 } from "./ssh-wire.ts";

const TYPE = "ssh-ed25519-cert-v01@openssh.com";
/** SSH2_CERT_TYPE_USER. */
const USER = 1;
/** So that nobody can choose all that the authority signs. */
const NONCE_BYTES = 32;

/** What a certificate says. */
export interface CertificateFacts {
  /** The agent's Ed25519 key, 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly serial: bigint;
  /** What the host writes into its log at each login. */
  readonly keyId: string;
  /** Never empty: that would be every account. */
  readonly principals: readonly string[];
  readonly validAfter: EpochSeconds;
  /** From this second on it is refused. */
  readonly validBefore: EpochSeconds;
  /** A host that does not know one of these refuses the certificate. */
  readonly criticalOptions: ReadonlyMap<string, string>;
  readonly extensions: readonly string[];
}

/** @returns the certificate as one line of a `…-cert.pub` file, without a comment */
export function signCertificate(facts: CertificateFacts, authority: Authority): string {
  if (facts.principals.length === 0) throw new RangeError("ssh: a certificate without principals is one for all");
  const body = Buffer.concat([
    sshStrings([TYPE, randomBytes(NONCE_BYTES), facts.publicKey]),
    uint64(facts.serial),
    uint32(USER),
    sshString(facts.keyId),
    sshString(sshStrings(facts.principals)),
    uint64(facts.validAfter),
    uint64(facts.validBefore),
    sshString(options([...facts.criticalOptions])),
    sshString(options(facts.extensions.map((name) => [name, undefined]))),
    sshString(""),
    sshString(authority.publicKey),
  ]);
  const signed = Buffer.concat([body, sshString(authority.sign(body))]);
  return `${TYPE} ${signed.toString("base64")}`;
}

/** Names in order, each once; a value is a string within a string, a flag an empty one. */
function options(entries: readonly (readonly [name: string, value: string | undefined])[]): Buffer {
  const sorted = [...entries].sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.concat(sorted.map(([name, value]) => sshStrings([name, value === undefined ? "" : sshString(value)])));
}
