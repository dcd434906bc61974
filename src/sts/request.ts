/**
 * The room `sts` is the token service: it proves who is asking by plug-ins (one file a grant type), and issues through one
 * pipeline that every grant takes. It owns the token, introspection and revocation endpoints; it does not decide
 * (`core/grants`), record (`authz`) or sign (`keys`) by itself. Called by `http` only.
 */
import type { Form } from "../core/oauth/form.ts";
import type { ActingAgent } from "./acting-agent.ts";

/** One request at an OAuth endpoint, as the edge hands it over. Headers are those that may matter, each at most once. */
export interface OAuthRequest {
  readonly method: string;
  readonly path: string;
  readonly authorization?: string | undefined;
  readonly dpop?: string | undefined;
  readonly accept?: string | undefined;
  readonly contentType?: string | undefined;
  readonly traceparent?: string | undefined;
  readonly body: Uint8Array;
  readonly remoteAddress: string;
  readonly requestId: string;
}

/** What goes back. */
export interface OAuthAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Asked right before the socket write; false: what was granted may not leave any more, and the answer is a 503. */
  readonly release?: () => boolean;
  /** Told when the answer cannot be written, in place of `release`. */
  readonly withheld?: () => void;
}

/** A request that was read: what every step of the pipeline may look at. */
export interface Context {
  readonly form: Form;
  readonly requestId: string;
  readonly remoteAddress: string;
  readonly traceId: string | undefined;
  readonly authorization: string | undefined;
  /** A verified DPoP proof; its `jti` is not spent yet. */
  readonly proof: DpopKey | undefined;
  /** Told who asks as soon as that is proved: whatever is refused then is recorded under that name (INV-29). */
  readonly proved?: (acting: ActingAgent) => void;
}

/** The key that a request proved, and what spends the proof. */
export interface DpopKey {
  readonly jkt: string;
  readonly replayKey: string;
  readonly replayUntil: number;
}
