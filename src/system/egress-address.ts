import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

/**
 * Where a connection may lead: `public`, global unicast addresses only; `internal`, also private, unique local, carrier-grade
 * NAT and loopback ones; `loopback`, only this machine.
 */
export type AddressScope = "public" | "internal" | "loopback";

/** Services of cloud platforms that hand out credentials or settings to whoever connects: no issuer lives there. */
const PLATFORM_ADDRESSES: ReadonlySet<string> = new Set([
  "169.254.169.254", // nearly all of them (link-local, so refused anyway; here for the reader)
  "100.100.100.200", // Alibaba Cloud
  "168.63.129.16", // Azure, a public address
  "fd00:ec2::254", // AWS
  "fd20:ce::254", // Google Cloud
]);

/** What an operator means by "internal". Link-local is not in it: there are metadata services, and no issuers. */
const INTERNAL_RANGES: ReadonlySet<string> = new Set([
  "unicast",
  "private",
  "uniqueLocal",
  "carrierGradeNat",
  "loopback",
]);

/**
 * Whether an address may be connected to (INV-21, A-OIDC-07). An IPv4 address inside an IPv6 one (`::ffff:a.b.c.d`) counts as
 * what it contains; translated and tunnelled forms (NAT64, 6to4, Teredo) are never public, since they can lead inside.
 *
 * @param address an IP literal without brackets; anything else is refused
 */
export function isAddressAllowed(address: string, scope: AddressScope): boolean {
  if (isIP(address) === 0) return false;
  // `process` turns IPv4-mapped IPv6 into IPv4.
  const parsed = ipaddr.process(address);
  if (PLATFORM_ADDRESSES.has(parsed.toString())) return false;
  const range: string = parsed.range();
  if (scope === "loopback") return range === "loopback";
  if (scope === "internal") {
    return INTERNAL_RANGES.has(range) && (range !== "unicast" || isGlobal(parsed));
  }
  return range === "unicast" && isGlobal(parsed);
}

/** ipaddr.js calls everything without a special range `unicast`; for IPv6 only 2000::/3 has been given out (RFC 4291 §2.4). */
function isGlobal(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  if (address.kind() === "ipv4") return true;
  const first = address.toByteArray()[0] ?? 0;
  return first >> 5 === 1;
}
