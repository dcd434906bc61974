/**
 * Limits on what a trust file may say, each with its reason. They bound the work that one object can cause at the token
 * endpoint, where strangers knock.
 */
export const TRUST_LIMITS = {
  /** Characters of a name: one DNS label, so that names fit everywhere (CONTRACT §1). */
  nameCharacters: 63,
  /** Characters of an action in a scope: MCP tool names reach 128, percent-encoding triples some of them. */
  actionCharacters: 256,
  /** Actions of one resource, and of one grant. */
  actions: 1000,
  /** Rules of one agent: each is a place where it runs, not a list of machines. */
  rules: 50,
  /** Claims of one rule. */
  claims: 32,
  /** Values in one list of a matcher. */
  values: 100,
  /** Characters of a claim name, which may be a URL. */
  claimNameCharacters: 256,
  /** Dots in a claim name: each one may be part of a name or a step into an object, so the ways double. */
  claimNameDots: 12,
  /** Characters of one text in a matcher: claims are no longer in any token we read (8 KiB). */
  valueCharacters: 1024,
  /** Stars in one pattern. */
  stars: 16,
  /** Characters of a claim that a pattern is tried on; longer ones match nothing. */
  globSubjectCharacters: 8192,
  /** Audiences of one issuer. */
  audiences: 20,
  /** Keys of one agent or one issuer's `jwks`. */
  keys: 32,
  /** Characters of one member of a key: an RSA modulus of 8192 bits takes 1366. */
  keyMemberCharacters: 2048,
  /** Characters of a URL or a resource identifier: RFC 8707 values travel in forms and claims. */
  urlCharacters: 512,
  /** Characters of free text: owner, purpose, client ids. */
  textCharacters: 254,
  /** Entries of `on_behalf_of` and of `delegate_to`. */
  parties: 100,
  /** Issuers at which one operator may sign in. */
  signIns: 10,
  /** Groups of one operator. */
  groups: 100,
  /** Characters of a condition. */
  conditionCharacters: 2000,
  /** Days that a resource may only observe (CONTRACT §4). */
  observeDays: 30,
  /** Nesting of the raw JSON, as everywhere (INV-27). */
  depth: 32,
  /** Values in one object's raw JSON; session policies of cloud providers are the largest. */
  nodes: 20_000,
  /** Characters of one text anywhere in an object. */
  anyTextCharacters: 20_000,
} as const;
