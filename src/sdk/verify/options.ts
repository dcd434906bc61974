import { machineClock, type Clock } from "./clock.ts";
import type { ResourceCredential } from "./credential.ts";
import type { FeedProblem } from "./feed.ts";
import { SIGNING_ALGORITHMS } from "./key-set.ts";
import type { ProofMemory } from "./proof.ts";

/** Bounds of the feed's silence, in seconds (CONTRACT §6). */
export const FEED_BOUND_SECONDS = { least: 2, usual: 5, most: 30 } as const;

/** How a verifier learns of kills. */
export type RevocationMode =
  /** The server tells (default): a kill is known within a second, and nothing is asked at a request. */
  | "feed"
  /** The server is asked at each request: a kill is known at once. */
  | "introspect"
  /** Not at all: a killed token is good for what is left of its life, 59 seconds at the most. */
  | "none";

/** Options that every verifier has. */
interface CommonOptions {
  /** Ephor's issuer identifier, exactly as in the tokens' `iss`. */
  readonly issuer: string;
  /** This resource's identifier, exactly as in the trust file; the only audience that is accepted. */
  readonly resource: string;
  /** Signature algorithms; default: those that Ephor can be configured to sign with. */
  readonly algorithms?: readonly string[];
  /** `https://host` under which callers reach this server, for DPoP; default: the origin of `resource`. */
  readonly origin?: string;
  /** Where this resource's metadata is; default: by RFC 9728 §3.1. */
  readonly resourceMetadataUrl?: string;
  /** Where proofs are remembered; default: in this process, so that several processes should share one. */
  readonly proofs?: ProofMemory;
  readonly clock?: Clock;
}

/** What a verifier is made of. */
export type VerifierOptions = CommonOptions &
  (
    | {
        readonly revocation?: "feed";
        readonly credential: ResourceCredential;
        /** Longest silence of the feed in seconds, 2 to 30; default 5. */
        readonly boundSeconds?: number;
        /** When the feed is silent for longer: refuse everything (default), or ask at each request. */
        readonly stale?: "refuse" | "introspect";
        /** Told whenever the feed tells nothing; for the log. */
        readonly onProblem?: (problem: FeedProblem) => void;
      }
    | { readonly revocation: "introspect"; readonly credential: ResourceCredential }
    | { readonly revocation: "none"; readonly credential?: ResourceCredential }
  );

/** Options after the check. */
export interface VerifierSettings {
  readonly issuer: string;
  readonly resource: string;
  readonly algorithms: readonly string[];
  readonly origin: string;
  readonly clock: Clock;
  readonly revocation: RevocationMode;
  readonly credential: ResourceCredential | undefined;
  readonly boundSeconds: number;
  readonly stale: "refuse" | "introspect";
  readonly onProblem: (problem: FeedProblem) => void;
}

/** @throws {TypeError} naming the option and the mend */
export function readSettings(options: VerifierOptions): VerifierSettings {
  const { issuer, resource, credential, revocation: mode = "feed" } = options;
  const {
    boundSeconds = FEED_BOUND_SECONDS.usual,
    stale = "refuse",
    onProblem = () => {},
  } = mode === "feed" ? (options as Extract<VerifierOptions, { boundSeconds?: number }>) : {};
  if (!URL.canParse(issuer) || issuer.endsWith("/") || !isSafe(new URL(issuer)))
    throw new TypeError("issuer: the https URL of your Ephor, as in its tokens, without a slash at its end");
  if (typeof resource !== "string" || !URL.canParse(resource))
    throw new TypeError("resource: this tool server's resource identifier, an absolute URI, as in the trust file");
  if (!["feed", "introspect", "none"].includes(mode)) throw new TypeError('revocation: "feed", "introspect" or "none"');
  if (mode !== "none" && credential === undefined)
    throw new TypeError(
      'credential: { name, secret } of this resource, made by `ephor resources secret NAME`; or revocation: "none", which leaves a killed token good until it expires',
    );
  if (!(boundSeconds >= FEED_BOUND_SECONDS.least && boundSeconds <= FEED_BOUND_SECONDS.most))
    throw new TypeError("boundSeconds: 2 to 30");
  const origin = options.origin ?? new URL(resource).origin;
  if (!URL.canParse(origin) || new URL(origin).origin !== origin)
    throw new TypeError(
      "origin: scheme and host under which callers reach this server, such as https://tools.acme.example",
    );
  return {
    issuer,
    resource,
    credential,
    algorithms: options.algorithms ?? SIGNING_ALGORITHMS,
    origin,
    clock: options.clock ?? machineClock,
    revocation: mode,
    boundSeconds,
    stale,
    onProblem,
  };
}

/** Keys and secrets travel there: TLS, or this machine. */
function isSafe({ protocol, hostname }: URL): boolean {
  const isLoopback = /^(?:127(?:\.\d+){3}|\[::1\]|localhost)$/.test(hostname);
  return protocol === "https:" || (protocol === "http:" && isLoopback);
}
