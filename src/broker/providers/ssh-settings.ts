/** The settings of the provider `ssh`: whose authority signs, for which accounts, and for what they may be used. */
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { z } from "zod";
import { nameValue, textValue } from "../../core/trust/values.ts";
import { ProviderError } from "../provider-error.ts";

/** Limits of one resource's settings, each with its reason. */
const LIMITS = {
  /** OpenSSH reads at most 256. */
  principals: 64,
  principalCharacters: 64,
  commandCharacters: 1_024,
  addresses: 32,
  policies: 32,
} as const;

/** What OpenSSH lets a certificate allow; without any of them there is no terminal and no forwarding. */
const EXTENSIONS = [
  "permit-X11-forwarding",
  "permit-agent-forwarding",
  "permit-port-forwarding",
  "permit-pty",
  "permit-user-rc",
] as const;

const principalValue = z
  .string()
  .max(LIMITS.principalCharacters)
  .regex(/^[A-Za-z0-9_][A-Za-z0-9._@%+=:/-]*$/, { error: "must be the name of an account or a role" });

const principalsValue = z.array(principalValue).min(1).max(LIMITS.principals);

const commandValue = textValue.max(LIMITS.commandCharacters);

const addressValue = z.string().refine(isAddressRange, { error: "must be an address or a range like 10.0.0.0/8" });

const addressesValue = z.array(addressValue).min(1).max(LIMITS.addresses);

const extensionsValue = z.array(z.enum(EXTENSIONS)).max(EXTENSIONS.length);

/** What a grant's policy leaves; what it does not name is left as it is. */
const policyValue = z.strictObject({
  principals: principalsValue.optional(),
  force_command: commandValue.optional(),
  extensions: extensionsValue.optional(),
});

/** The shape of `credential: { ssh: … }`. */
export const sshSettings = z
  .strictObject({
    /** The vault's secret with the authority's private key. */
    secret: nameValue,
    /** Accounts, or names that the host's AuthorizedPrincipalsFile maps to accounts. */
    principals: principalsValue,
    /** Run whatever is asked for. */
    force_command: commandValue.optional(),
    /** From where it may be used. */
    source_address: addressesValue.optional(),
    extensions: extensionsValue.default([]),
    session_policies: z
      .record(nameValue, policyValue)
      .refine((all) => Object.keys(all).length <= LIMITS.policies, { error: "has too many policies" })
      .default({}),
  })
  .refine((all) => Object.values(all.session_policies).every((policy) => isWithin(policy, all)), {
    error:
      "has a session policy with a principal or an extension that the resource itself does not have, or another command",
  });

/** Settings after parsing, with the defaults in place. */
export type SshSettings = z.infer<typeof sshSettings>;

/** What one certificate allows. */
export interface SshRights {
  readonly principals: readonly string[];
  readonly forceCommand: string | undefined;
  readonly extensions: readonly string[];
}

/**
 * What one lease's certificate allows: what the resource does, and of that only what every policy leaves.
 *
 * @throws {ProviderError} `order_refused` for a policy that the resource does not have, `cannot_bound` where policies
 *   leave no principal or want different commands
 */
export function sshRightsOf(settings: SshSettings, policies: readonly string[]): SshRights {
  let principals: readonly string[] = settings.principals;
  let extensions: readonly string[] = settings.extensions;
  let forceCommand = settings.force_command;
  for (const name of policies) {
    const policy = Object.hasOwn(settings.session_policies, name) ? settings.session_policies[name] : undefined;
    if (!policy) throw new ProviderError("order_refused");
    const { principals: kept, extensions: keptExtensions, force_command: command } = policy;
    if (kept) principals = principals.filter((principal) => kept.includes(principal));
    if (keptExtensions) extensions = extensions.filter((extension) => keptExtensions.some((one) => one === extension));
    if (command !== undefined && forceCommand !== undefined && command !== forceCommand) {
      throw new ProviderError("cannot_bound");
    }
    forceCommand = command ?? forceCommand;
  }
  if (principals.length === 0) throw new ProviderError("cannot_bound");
  return { principals, forceCommand, extensions };
}

function isWithin(
  policy: z.infer<typeof policyValue>,
  all: { principals: readonly string[]; extensions: readonly string[]; force_command?: string | undefined },
): boolean {
  return (
    (policy.principals ?? []).every((principal) => all.principals.includes(principal)) &&
    (policy.extensions ?? []).every((extension) => all.extensions.includes(extension)) &&
    (policy.force_command === undefined || (all.force_command ?? policy.force_command) === policy.force_command)
  );
}

/** OpenSSH refuses the whole certificate for a range with bits beyond its mask, so it is refused here. */
function isAddressRange(text: string): boolean {
  const [, address = "", bits] = /^([0-9A-Fa-f.:]+)(?:\/(0|[1-9][0-9]{0,2}))?$/.exec(text) ?? [];
  const family = isIP(address);
  if (family === 0 || bits === undefined) return family !== 0;
  if (Number(bits) > (family === 4 ? 32 : 128)) return false;
  const network = (family === 4 ? ipaddr.IPv4 : ipaddr.IPv6).networkAddressFromCIDR(text);
  return network.toString() === ipaddr.parse(address).toString();
}
