/** Limits of the room. Milliseconds are monotonic. */
export const LIMITS = {
  /** Longest workload token, in bytes (A-JWT-11). Tokens of humans may have twice that: they list groups. */
  workloadTokenBytes: 8 * 1024,
  /**
   * Longest `exp - iat` where the issuer names none, in seconds. Kubernetes and Entra's managed identities go up to a day;
   * anything longer is a credential, not a token.
   */
  tokenLifetimeSeconds: 24 * 60 * 60,
  /** A discovery document has 2–5 KB; OIDC providers with many features have 10. */
  discoveryBytes: 64 * 1024,
  /** A key set; RSA keys with certificates take 2.5 KB each. */
  jwksBytes: 100 * 1024,
  /** For discovery and keys together, from the first DNS question to the last byte (INV-21). */
  fetchMs: 5_000,
  /** Keys in a set. Large providers publish about ten; a set with more is an attack on our memory. */
  keysPerSet: 100,
  /** A set is used this long without asking again, unless the answer's `Cache-Control` says less (A-OIDC-04). */
  keysFreshMs: 10 * 60 * 1000,
  /** `Cache-Control` cannot ask for a fetch more often than this. */
  keysFreshAtLeastMs: 60 * 1000,
  /** From this share of its time on, a set is fetched anew in the background, so that no request waits for it. */
  refreshAheadShare: 0.8,
  /** While the issuer cannot be reached its last keys are used this long; a compromised key must age out. */
  keysStaleMs: 60 * 60 * 1000,
  /** At most one refresh per issuer in this time, whatever tokens are sent to us (INV-21, A-OIDC-10). */
  refreshCooldownMs: 30 * 1000,
  /** Remembered good signatures, over all issuers: 1.5 MB. */
  rememberedSignatures: 10_000,
  /** The same of security events; each is sent again now and then, if at all. */
  rememberedEvents: 100,
  /** Longest time that the `exp` of a client assertion may lie ahead, in seconds (A-CLI-04). */
  clientAssertionAheadSeconds: 300,
  /** Oldest security event, in seconds by its `iat`: transmitters try again for days; a week later nobody awaits it. */
  securityEventAgeSeconds: 7 * 24 * 60 * 60,
  /** Longest `exp - iat` of an ID-JAG, in seconds; the draft's example lives five minutes. */
  idJagLifetimeSeconds: 60 * 60,
} as const;
