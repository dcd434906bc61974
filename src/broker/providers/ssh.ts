/**
 * The provider `ssh`: a key pair made for one lease, and a user certificate for it that a CA key of the vault signs.
 *
 * Hosts trust the CA with `TrustedUserCAKeys`, and log the certificate's key id and serial at each login. The certificate
 * is refused from the lease's end on, by the host's clock: nothing is revoked, so a kill before that waits for it, less
 * than a minute. A session that was opened before goes on; a host that must end it too runs a `force_command` that ends,
 * or is reached through the proxy.
 */
import { randomBytes } from "../../system/random.ts";
import type { CredentialProvider, LeaseFacts, Minted, MintOrder } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import { signCertificate } from "./ssh-certificate.ts";
import { makeAgentKey, readAuthority } from "./ssh-keys.ts";
import { sshRightsOf, sshSettings, type SshSettings } from "./ssh-settings.ts";

/** A host whose clock is a little behind must not refuse what was signed just now, in seconds. */
const BACKDATE_SECONDS = 30;
/** No certificate outlives its lease, whatever the order says. */
const MAX_LIFE_SECONDS = 59;
/** Hosts write it into one line of their log. */
const KEY_ID_CHARACTERS = 240;

/** Makes the provider. */
export function createSshProvider(): CredentialProvider<SshSettings> {
  return {
    kind: "ssh",
    settings: sshSettings,
    secrets: (settings) => [settings.secret],
    // Everything happens in this process: nothing to stop, and nothing to undo.
    mint: async (order) => mint(order),
    residualSeconds: () => 0,
  };
}

function mint(order: MintOrder<SshSettings>): Minted {
  const { settings, lease, issuedAt, endsAt } = order;
  const life = endsAt - issuedAt;
  if (!(life >= 1 && life <= MAX_LIFE_SECONDS)) throw new ProviderError("cannot_bound");
  const secret = order.secrets.get(settings.secret);
  if (!secret) throw new ProviderError("secret_malformed");
  const { principals, forceCommand, extensions } = sshRightsOf(settings, order.policies);
  const authority = secret.use(readAuthority);
  const key = makeAgentKey(lease.id);
  const serial = Buffer.from(randomBytes(8)).readBigUInt64BE();
  const keyId = keyIdOf(lease);
  const certificate = signCertificate(
    {
      publicKey: key.publicKey,
      serial,
      keyId,
      principals,
      validAfter: issuedAt - BACKDATE_SECONDS,
      validBefore: endsAt,
      criticalOptions: new Map([
        ...(forceCommand === undefined ? [] : [["force-command", forceCommand] as const]),
        ...(settings.source_address ? [["source-address", settings.source_address.join(",")] as const] : []),
      ]),
      extensions,
    },
    authority,
  );
  return {
    credential: {
      private_key: key.privateFile,
      certificate,
      public_key: key.publicLine,
      principals,
      valid_until: new Date(endsAt * 1000).toISOString().replace(".000Z", "Z"),
    },
    handle: {},
    marks: [
      { kind: "ssh_serial", value: String(serial) },
      { kind: "ssh_key_id", value: keyId },
    ],
  };
}

/** `agent/lease/human`; what could break a line of a log is a dot. */
function keyIdOf({ agent, id, sub }: LeaseFacts): string {
  return `${agent}/${id}/${sub}`.replaceAll(/[^A-Za-z0-9@._+:|/-]/g, ".").slice(0, KEY_ID_CHARACTERS);
}
