import ipaddr from "ipaddr.js";
import type { IncomingMessage, ServerResponse } from "node:http";
import { InvalidDpopProofError, InvalidRequestError } from "../core/oauth/errors.ts";
import { randomToken } from "../system/random.ts";
import { LIMITS } from "./limits.ts";
import { whenOver } from "./reader.ts";

/** Answers one request on Node's own objects. `query` is what follows the first `?`, or undefined. */
export type NodeHandler = (req: IncomingMessage, res: ServerResponse, target: RequestTarget) => void;

/** The target of a request, split once. */
export interface RequestTarget {
  /** Below the issuer's path, so that it starts with `/`; percent-encoding is left alone. */
  readonly path: string;
  readonly query: string | undefined;
}

/** Ids of requests, unique over all processes: a random prefix and a count. */
export function createRequestIds(): () => string {
  const prefix = `req_${randomToken(9)}`;
  let count = 0;
  return () => `${prefix}${(count++).toString(36).padStart(6, "0")}`;
}

/** Tells where requests come from. */
export interface Addresses {
  /** The client's address: the peer's, or what a trusted proxy says. Never a name, never text that a stranger chose freely. */
  clientOf(req: IncomingMessage): string;
  /** Whether it came from this machine and through no proxy. */
  isLocal(req: IncomingMessage): boolean;
}

const FORWARDING_HEADERS = ["x-forwarded-for", "forwarded", "x-real-ip", "via"] as const;

/** @param trusted addresses and networks (CIDR) whose `X-Forwarded-For` is believed */
export function createAddresses(trusted: readonly string[]): Addresses {
  const networks = trusted.map((entry) => {
    const address = ipaddr.process(entry.split("/")[0] ?? "");
    const width = address.kind() === "ipv4" ? 32 : 128;
    return { address, bits: entry.includes("/") ? Number(entry.split("/")[1]) : width };
  });
  const isTrusted = (text: string): boolean => {
    const address = ipaddr.process(text);
    return networks.some(
      (network) => network.address.kind() === address.kind() && address.match(network.address, network.bits),
    );
  };
  return {
    clientOf(req) {
      const peer = plain(req.socket.remoteAddress);
      const forwarded = req.headers["x-forwarded-for"];
      if (networks.length === 0 || typeof forwarded !== "string" || !ipaddr.isValid(peer) || !isTrusted(peer))
        return peer;
      // From the right: each trusted proxy vouches for the one before it. The first that is not trusted is the client.
      let client = peer;
      for (const entry of forwarded.split(",").slice(-LIMITS.forwardedHops).toReversed()) {
        const hop = plain(entry.trim());
        if (!ipaddr.isValid(hop)) break;
        client = hop;
        if (!isTrusted(hop)) break;
      }
      return client;
    },
    isLocal(req) {
      const peer = plain(req.socket.remoteAddress);
      const isLoopback = ipaddr.isValid(peer) && ipaddr.process(peer).range() === "loopback";
      return isLoopback && FORWARDING_HEADERS.every((name) => req.headers[name] === undefined);
    },
  };
}

/** IPv4 in IPv6 clothes becomes IPv4; a zone is dropped. */
function plain(address: string | undefined): string {
  const bare = (address ?? "").split("%")[0] ?? "";
  return bare.startsWith("::ffff:") && bare.includes(".") ? bare.slice("::ffff:".length) : bare;
}

/**
 * Refuses a request in which a header that counts stands twice. Node keeps the first `Authorization` and joins two `DPoP`,
 * so that two readers could see different ones.
 *
 * @throws {InvalidRequestError} `malformed_request`
 * @throws {InvalidDpopProofError} `dpop_malformed` (RFC 9449 §4.3 check 1)
 */
export function refuseRepeatedHeaders(req: IncomingMessage): void {
  const raw = req.rawHeaders;
  let seen = 0;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string;
    const bit = bitOf(name);
    if (bit === 0) continue;
    if ((seen & bit) !== 0) {
      if (bit === DPOP) throw new InvalidDpopProofError({ reason: "dpop_malformed", problem: "repeated" });
      throw new InvalidRequestError({ reason: "malformed_request", help: "A header occurs more than once." });
    }
    seen |= bit;
  }
}

const AUTHORIZATION = 1;
const DPOP = 2;
const CONTENT_TYPE = 4;

function bitOf(name: string): number {
  // Length first: it is one comparison for nearly every header.
  switch (name.length) {
    case 4:
      return name.toLowerCase() === "dpop" ? DPOP : 0;
    case 12:
      return name.toLowerCase() === "content-type" ? CONTENT_TYPE : 0;
    case 13:
      return name.toLowerCase() === "authorization" ? AUTHORIZATION : 0;
    default:
      return 0;
  }
}

/** A header that Node joins or keeps once, as one text. */
export function headerText(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** A signal that fires when the client goes before the answer is written; made when first asked for, for few ask. */
export function lazySignal(req: IncomingMessage, res: ServerResponse): () => AbortSignal {
  let controller: AbortController | undefined;
  return () => {
    if (controller !== undefined) return controller.signal;
    const made = new AbortController();
    controller = made;
    whenOver(req, res, () => res.writableFinished || made.abort());
    return made.signal;
  };
}
