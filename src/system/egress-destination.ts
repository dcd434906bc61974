import { isIP } from "node:net";
import { isAddressAllowed } from "./egress-address.ts";
import { resolveBySystem, type ResolveAll } from "./egress-connector.ts";
import { EgressError } from "./egress-error.ts";

/** Longest that names are looked up for, in milliseconds. */
const LOOKUP_MS = 3_000;

/**
 * Whether `egress` would connect there now: for URLs that somebody gives us long before they are used. It is no promise, for
 * names change: each connection is checked again.
 *
 * @param o.internal as in `EgressRequest`
 * @throws {EgressError} `url`, `address`, `network` (the name is not known) or `timeout`
 */
export async function checkDestination(
  text: string,
  o: { internal: boolean; resolve: ResolveAll | undefined },
): Promise<void> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.username !== "" || url.password !== "" || url.hash !== "") throw new EgressError("url");
  const isPlain = url.protocol === "http:";
  if (url.protocol !== "https:" && !(isPlain && o.internal)) throw new EgressError("url");
  const scope = isPlain ? "loopback" : o.internal ? "internal" : "public";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const addresses = isIP(host) === 0 ? await addressesOf(host, o.resolve ?? resolveBySystem) : [host];
  if (addresses.length === 0 || !addresses.every((address) => isAddressAllowed(address, scope)))
    throw new EgressError("address");
}

async function addressesOf(host: string, resolve: ResolveAll): Promise<readonly string[]> {
  let late: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    late = setTimeout(() => reject(new EgressError("timeout")), LOOKUP_MS);
  });
  const found = resolve(host).catch((cause: unknown) => {
    throw new EgressError("network", { cause });
  });
  try {
    return (await Promise.race([found, timeout])).map(({ address }) => address);
  } finally {
    clearTimeout(late);
  }
}
