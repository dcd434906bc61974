/**
 * The room `http` owns the edge: it reads requests within bounds, hands them to the rooms, and writes answers and errors in
 * the form that each protocol wants. It decides nothing, knows no database and signs nothing. Called by the composition
 * root only.
 *
 * This file: every bound of the edge, with its reason (INV-27).
 */
export const LIMITS = {
  /** A form at an OAuth endpoint. Three tokens of 16 KiB and their parameters fit. */
  formBytes: 64 * 1024,
  /** A JSON body under `/v1`, unless the route says otherwise. */
  jsonBytes: 64 * 1024,
  /** A trust file with some thousand objects. */
  applyBytes: 1024 * 1024,
  /** What is read and thrown away of a body that is refused, so that its sender gets to read the refusal. */
  lingerBytes: 1024 * 1024,
  /** Request line and headers: a token of 8 KiB, a DPoP proof of 4 KiB, and room. Node answers 431 above. */
  headerBytes: 16 * 1024,
  /** Header lines in one request. */
  headerCount: 100,
  /** Milliseconds until the headers must be there. */
  headersTimeoutMs: 10_000,
  /** Milliseconds until the whole request must be there: a megabyte over a slow line. */
  requestTimeoutMs: 20_000,
  /** Milliseconds a quiet connection is kept: longer than load balancers keep theirs (60 s), so that they close first. */
  keepAliveTimeoutMs: 65_000,
  /** Milliseconds between two looks at those timeouts. */
  timeoutCheckMs: 1_000,
  /** Open connections of one process; more are not accepted. */
  connections: 10_000,
  /**
   * OAuth requests in progress in one process; more are answered 503 at once. The gate does some thousand a second, so that
   * whoever waits behind this many would wait about a second. Kill and the rest of `/v1` are not counted (INV-10).
   */
  oauthInFlight: 2_000,
  /**
   * Proxied calls in progress in one process, from their head to the last byte of their answer; more are answered 503 at once.
   * Each may hold a body and an answer of a megabyte or more, and two sockets.
   */
  proxiedInFlight: 2_000,
  /**
   * Milliseconds for which a follower of the feed of kills may leave a frame unread. The longest bound of a verifier: one that
   * heard nothing for so long refuses everything, and comes again with its place.
   */
  feedUnreadMs: 30_000,
  /** Seconds of `Retry-After`. */
  retryAfterSeconds: 1,
  /** Seconds that metadata and key sets may be cached: a key is published longer than this before its first use. */
  metadataMaxAgeSeconds: 300,
  /** Entries of `X-Forwarded-For` that are looked at, from the right. */
  forwardedHops: 16,
} as const;
