import { lookup as dnsLookup, type LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { buildConnector } from "undici";
import { isAddressAllowed, type AddressScope } from "./egress-address.ts";
import { EgressError } from "./egress-error.ts";

/** Finds all addresses of a host name. `node:dns` by default; tests hand in names of their own. */
export type ResolveAll = (hostname: string) => Promise<readonly LookupAddress[]>;

/** The system resolver: `/etc/hosts` and DNS. */
export const resolveBySystem: ResolveAll = (hostname) =>
  new Promise((resolve, reject) => {
    dnsLookup(hostname, { all: true }, (error, addresses) => (error === null ? resolve(addresses) : reject(error)));
  });

/**
 * An undici connector that never opens a connection to an address outside its scope, whatever the name resolves to and
 * however often it changes: the addresses that were checked are the ones that are connected to (A-OIDC-08).
 */
export function guardedConnector(o: {
  internal: boolean;
  connectTimeoutMs: number;
  resolve: ResolveAll;
}): buildConnector.connector {
  const build = (scope: AddressScope): buildConnector.connector =>
    buildConnector({
      lookup: guardedLookup(scope, o.resolve),
      timeout: o.connectTimeoutMs,
      // Explicit, so that NODE_TLS_REJECT_UNAUTHORIZED cannot switch it off.
      rejectUnauthorized: true,
      minVersion: "TLSv1.2",
    } as buildConnector.BuildOptions);
  const byProtocol: Record<string, { scope: AddressScope; connect: buildConnector.connector } | undefined> = {
    "https:": withScope(o.internal ? "internal" : "public", build),
    ...(o.internal ? { "http:": withScope("loopback", build) } : {}),
  };

  return (options, callback) => {
    const guard = byProtocol[options.protocol];
    if (guard === undefined) return callback(new EgressError("url"), null);
    const hostname = options.hostname.replace(/^\[|\]$/g, "");
    // undici never calls `lookup` for a literal (ecosystem.md, fact 8).
    if (isIP(hostname) !== 0 && !isAddressAllowed(hostname, guard.scope)) {
      return callback(new EgressError("address"), null);
    }
    guard.connect({ ...options, hostname }, (...result) => {
      const [error, socket] = result;
      if (error !== null) return callback(asUnreached(error), null);
      if (!isAddressAllowed(socket.remoteAddress ?? "", guard.scope)) {
        socket.destroy();
        return callback(new EgressError("address"), null);
      }
      socket.on("error", asBrokenOff);
      return callback(null, socket);
    });
  };
}

/**
 * undici takes a reset as the end of an answer that says no length, and half of it as whole: by this name a reset is an error to
 * it there too. Whoever hangs the connector's socket up hears of it first.
 */
function asBrokenOff(error: NodeJS.ErrnoException): void {
  if (error.code === "ECONNRESET") error.code = "EPHOR_RESET";
}

/** What was refused by us stays what it is; everything else is said to have failed before a byte of a request left. */
function asUnreached(error: Error): EgressError {
  if (error instanceof EgressError && error.kind !== "network") return error;
  const isTimeout = "code" in error && error.code === "UND_ERR_CONNECT_TIMEOUT";
  return new EgressError(isTimeout ? "timeout" : "network", { cause: error, unreached: true });
}

function withScope(
  scope: AddressScope,
  build: (scope: AddressScope) => buildConnector.connector,
): { scope: AddressScope; connect: buildConnector.connector } {
  return { scope, connect: build(scope) };
}

/** Refuses a name as soon as one of its addresses is not allowed: a name that is half inside is an attack or a mistake. */
function guardedLookup(scope: AddressScope, resolve: ResolveAll): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname).then(
      (addresses) => {
        const first = addresses[0];
        if (first === undefined || !addresses.every((entry) => isAddressAllowed(entry.address, scope))) {
          callback(new EgressError("address"), "", 0);
        } else if (options.all === true) {
          callback(null, [...addresses]);
        } else {
          callback(null, first.address, first.family);
        }
      },
      (error: unknown) => callback(new EgressError("network", { cause: error }), "", 0),
    );
  };
}
