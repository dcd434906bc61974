/** What the test and its issuer process say to each other over IPC. */

/** Algorithms that the issuer makes keys for. */
export type KeyAlgorithm = "RS256" | "ES256" | "Ed25519";

/** Documents that the issuer serves. */
export type Page = "discovery" | "jwks" | "token";

/** A key pair of the issuer; the test signs with it, so that minting needs no round trip. */
export interface IssuerKey {
  readonly kid: string;
  readonly algorithm: KeyAlgorithm;
  readonly privateJwk: Record<string, unknown>;
  readonly publicJwk: Record<string, unknown>;
  published: boolean;
}

/** One HTTP request that reached the issuer. */
export interface SeenRequest {
  readonly path: string;
  readonly headers: Record<string, string | string[] | undefined>;
  /** Of a POST. */
  readonly body?: string;
}

/** An authorization code that the token endpoint takes once, from the client that it was made for (RFC 6749 §4.1.3, RFC 7636 §4.6). */
export interface IssuedCode {
  readonly code: string;
  readonly clientId: string;
  readonly redirectUri: string;
  /** `code_challenge` by S256. */
  readonly challenge: string;
  /** Members of the answer. */
  readonly answer: Record<string, unknown>;
}

/** What the process holds. */
export interface IssuerState {
  keys: IssuerKey[];
  extraJwks: unknown[];
  requests: SeenRequest[];
  codes: IssuedCode[];
}

/** How a document is served wrongly. Without `body`, `members` or bytes the body is empty. */
export interface Misbehaviour {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly bodyBase64?: string;
  /** Members that replace those of the right document. */
  readonly members?: Record<string, unknown>;
  /** Never answers. */
  readonly hang?: true;
  /** Never stops. */
  readonly endless?: true;
  /** One blank every so many milliseconds, for ever. */
  readonly dripMs?: number;
}

/** Commands from the test. */
export type Command =
  | { type: "open"; algorithms: readonly KeyAlgorithm[]; kid?: string }
  | { type: "close" }
  | { type: "state" }
  | { type: "addKey"; algorithm: KeyAlgorithm; kid?: string }
  | { type: "removeKey"; kid: string }
  | { type: "publish"; jwks: unknown[] }
  | { type: "misbehave"; page: Page; how: Misbehaviour | null }
  | { type: "code"; issued: IssuedCode }
  | { type: "forgetRequests" }
  | { type: "reset"; kids: string[] };

/** What `open` is answered with. Keys are newest first. */
export interface Opened {
  readonly issuer: number;
  readonly url: string;
  readonly keys: IssuerKey[];
}

/** The process's answer to the command with the same id. */
export interface Answer {
  readonly id: number;
  readonly result: unknown;
}
