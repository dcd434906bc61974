import type { Explanation } from "../api/decisions.ts";
import type { ProxiedAnswer, ProxiedRequest } from "../proxy/exchange.ts";
import type { ApplyRequest, ApplyResult } from "../api/apply.ts";
import type { ApprovalDecision, ApprovalPage, ApprovalQuery, ApprovalView } from "../api/approvals.ts";
import type { AuditPage, AuditQuery, AuditVerdict, ExportQuery } from "../api/audit.ts";
import type { Chain } from "../api/chains.ts";
import type { VendedCredential } from "../api/credentials.ts";
import type { ReadinessChecks } from "../api/health.ts";
import type { KeyRotation, Rewrap } from "../api/keys.ts";
import type { KillOrder, KillPage, KillReceipt, KillsQuery, Restored, RestoreOrder } from "../api/kill.ts";
import type { LoginView } from "../api/login.ts";
import type { FeedFrameView } from "../api/revocations.ts";
import type { RecordingsErased, RecordingView } from "../api/recordings.ts";
import type { SecretPage, SecretRotated, SecretView } from "../api/secrets.ts";
import type {
  PollAnswer,
  PollRequest,
  StreamChange,
  StreamRequest,
  StreamStatus,
  StreamStatusRequest,
  StreamView,
} from "../api/ssf.ts";
import type { TaskCompleted, TaskOpened, TaskRequest, TaskView } from "../api/tasks.ts";
import type { ToolPage, ToolsAccepted, ToolsAcceptRequest } from "../api/tools.ts";
import type { AgentStatusRequest, TrustDeleted, TrustObject, TrustPage } from "../api/trust-objects.ts";
import type { LeasePage, LeaseQuery } from "../api/leases.ts";
import type { Who } from "../api/who.ts";
import type { Hooks } from "../channels/hooks.ts";
import type { Asker } from "../core/kill/asker.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { TrustKind } from "../core/trust/model.ts";
import type { PushedSignal } from "../revocation/signals-received.ts";
import type { OAuthAnswer, OAuthRequest } from "../sts/request.ts";
import type { Release } from "./release.ts";

/** Actions at the built-in resource `ephor` (CONTRACT §1). */
export const EPHOR_ACTIONS = ["read", "audit", "trust", "secrets", "kill", "restore", "approve", "replay"] as const;

/** An action at the built-in resource `ephor`; its scope is `ephor:<action>`. */
export type EphorAction = (typeof EPHOR_ACTIONS)[number];

/** A request at an OAuth endpoint that passed the edge: method, content type and size fit, no header that counts came twice. */
export interface RawOAuthRequest extends OAuthRequest {
  /** Wall-clock milliseconds when its head was read. */
  readonly receivedAtMs: number;
  /** Aborted when the client goes away before the answer. Made when first asked for. */
  readonly signal: AbortSignal;
}

/** What an OAuth room answers. */
export type RawOAuthAnswer = OAuthAnswer;

/** What every room may know about a request to `/v1`. */
export interface RequestFacts {
  readonly requestId: string;
  readonly method: string;
  /** The pattern: `/v1/agents/{name}`. */
  readonly route: string;
  /** The client's address; that of a trusted proxy's client where there is one. */
  readonly remoteAddress: string;
  readonly traceparent: string | undefined;
  readonly receivedAtMs: number;
  readonly signal: AbortSignal;
}

/** Credentials of a request to `/v1` that are no operator key. Each header came at most once. */
export interface Credentials {
  readonly authorization: string | undefined;
  readonly dpop: string | undefined;
  /** What a browser sends of its own accord, and what it says of the page that sends; absent in process. */
  readonly browser?: {
    readonly cookies: string | undefined;
    /** `Ephor-CSRF`: the session's proof, which a page of ours has. */
    readonly csrf: string | undefined;
    readonly fetchSite: string | undefined;
    readonly origin: string | undefined;
  };
  /** For the proof: the method, and our URL of the path as it was asked for, by configuration (RFC 9449 §4.3). */
  readonly method: string;
  readonly url: string;
}

/** Whoever holds the operator key; may do everything under `/v1` that is not an agent's own. */
export interface OperatorCaller {
  readonly kind: "operator";
  readonly id: string;
}

/** An agent that asks on its own. */
export interface AgentCaller {
  readonly kind: "agent";
  readonly agent: string;
  /** Present when it came with a token of ours for `<issuer>/v1`. */
  readonly token?: {
    readonly jti: string;
    readonly txn: string;
    readonly sub: string;
    readonly scopes: readonly string[];
    /** What kills it. */
    readonly kill: Asker;
  };
}

/** A person who is signed in. What he may do was looked up for this request; nothing of it outlives the request. */
export interface PersonCaller {
  readonly kind: "person";
  /** Which operator this is; undefined for a human who is none. */
  readonly operator: string | undefined;
  /** As our tokens name him: `<issuer name>|<its sub>`. */
  readonly sub: string;
  /** Of the sign-in at the issuer, epoch seconds; undefined where it did not say. */
  readonly authTime: number | undefined;
  /** He was killed, now or since the sign-in: he decides nothing. */
  readonly isKilled: boolean;
}

/** Who is asking. */
export type Caller = OperatorCaller | PersonCaller | AgentCaller;

/** Whoever is signed in at the console, as a caller of `/v1`. */
export interface SessionCaller {
  readonly caller: OperatorCaller | PersonCaller;
  /** Actions at `ephor` that he may take; undefined: all. */
  readonly roles: readonly EphorAction[] | undefined;
}

/** A session that stands, found by its cookie. */
export interface FoundSession extends SessionCaller {
  /** Whether a form or a request shows that a page of ours made it. In constant time. */
  readonly isOurs: (proof: string) => boolean;
}

/** A call of a room on somebody's behalf. */
export interface Call<C extends Caller = Caller> {
  readonly caller: C;
  readonly request: RequestFacts;
}

/** A request whose client the room authenticates. */
export type ClientRequest = RequestFacts & { readonly credentials: Credentials };

/** From where a receiver wants the feed, and of which resource. */
export interface FeedOrder {
  readonly after?: number | undefined;
  readonly resource?: string | undefined;
}

/** A refusal by the edge itself, before any room was asked. */
export interface EdgeRefusal {
  readonly reason: Reason;
  readonly requestId: string;
  readonly route: string;
  readonly remoteAddress: string;
  /** Who asked, where that was proved. */
  readonly agent?: string;
}

/**
 * Everything the routes call, and nothing else. Whatever a room throws is mapped once: `OAuthError` and `ProblemError` to
 * their codes, `RefusedToken` to a bland refusal, anything else to 500.
 */
export interface Rooms {
  readonly sts: {
    token(request: RawOAuthRequest): Promise<RawOAuthAnswer>;
    introspect(request: RawOAuthRequest): Promise<RawOAuthAnswer>;
    revoke(request: RawOAuthRequest): Promise<RawOAuthAnswer>;
    /** A fresh nonce for the `DPoP-Nonce` header (RFC 9449 §8). */
    dpopNonce(): string;
  };
  readonly operators: {
    /** Whether the header holds an operator key, good or bad. */
    isOperatorKey(authorization: string | undefined): boolean;
    /** @throws {InvalidTokenError} `operator_key_wrong` */
    authenticate(authorization: string | undefined): Promise<{ readonly id: string }>;
  };
  readonly sessions: {
    /** Whose session this is, asked of the database each time. */
    find(cookies: string | undefined): Promise<FoundSession | undefined>;
  };
  readonly accessTokens: {
    /**
     * An agent by a token of ours with `aud` `<issuer>/v1`, decided and recorded for this action now.
     *
     * @throws {InvalidTokenError}, {InsufficientScopeError}, {InvalidDpopProofError}, {UseDpopNonceError}
     */
    authenticate(credentials: Credentials, action: EphorAction, request: RequestFacts): Promise<AgentCaller>;
    /**
     * Calls back when a kill covers whoever was let in, or none would be heard of any more; what it asked for is not to be told.
     *
     * @returns what is called when all is told
     */
    follow(caller: AgentCaller, onCut: () => void): () => void;
  };
  readonly agents: {
    /** An agent by its own workload token, `private_key_jwt`, or a token of ours with `aud` `<issuer>/v1`; no grant is needed. */
    authenticate(credentials: Credentials, request: RequestFacts): Promise<AgentCaller>;
  };
  readonly tasks: {
    open(order: TaskRequest, call: Call<AgentCaller>): Promise<TaskOpened>;
    read(txn: string, call: Call<AgentCaller>): Promise<TaskView>;
    complete(txn: string, call: Call<AgentCaller>): Promise<TaskCompleted>;
  };
  readonly revocations: {
    /** One frame, for the client that the room authenticates. */
    frame(order: FeedOrder, request: ClientRequest): Promise<FeedFrameView>;
    /** Server-sent events, each whole, until the client goes. */
    frames(order: FeedOrder, request: ClientRequest): Promise<AsyncIterable<string>>;
  };
  /** Streams of security events; each call is judged by the room, a stream that is not the caller's is none. */
  readonly ssf: {
    create(order: StreamRequest, request: ClientRequest): Promise<StreamView>;
    list(request: ClientRequest): Promise<StreamView[]>;
    read(id: string, request: ClientRequest): Promise<StreamView>;
    /** @param order.isWhole what is not named goes back to how it is by default */
    change(order: StreamChange & { readonly isWhole: boolean }, request: ClientRequest): Promise<StreamView>;
    remove(id: string, request: ClientRequest): Promise<void>;
    status(id: string, request: ClientRequest): Promise<StreamStatus>;
    setStatus(order: StreamStatusRequest, request: ClientRequest): Promise<StreamStatus>;
    verify(order: { stream_id: string; state?: string | undefined }, request: ClientRequest): Promise<void>;
    poll(id: string, order: PollRequest, request: ClientRequest): Promise<PollAnswer>;
  };
  readonly signals: {
    /**
     * Resolves when what a security event means stands everywhere.
     *
     * @throws {RefusedToken} recorded; the route tells it by RFC 8935
     */
    receive(pushed: PushedSignal): Promise<void>;
  };
  /** Where humans sign in. */
  login(): LoginView;
  readonly credentials: {
    /** By a token of ours for that resource, which the room judges. */
    vend(
      resource: string,
      request: RequestFacts & { readonly credentials: Credentials },
    ): Promise<{ readonly vended: VendedCredential; readonly released: Release }>;
  };
  readonly proxy: {
    /** One HTTP call, or undefined where there is no such resource. What it throws is mapped by `http/proxied`. */
    http(request: ProxiedRequest): Promise<ProxiedAnswer | undefined>;
    /** One MCP message, likewise. */
    mcp(request: ProxiedRequest): Promise<ProxiedAnswer | undefined>;
  };
  /** Tools of an MCP resource, pinned and waiting. */
  readonly tools: {
    /** @param only one tool, with its definitions. @returns undefined where there is no such resource, or no such tool */
    list(resource: string, only: string | undefined): Promise<ToolPage | undefined>;
    accept(resource: string, order: ToolsAcceptRequest, call: Call): Promise<ToolsAccepted | undefined>;
  };
  readonly approvals: {
    /** A reviewing agent sees those that ask it. */
    list(query: ApprovalQuery, call: Call): Promise<ApprovalPage>;
    read(id: string, call: Call): Promise<ApprovalView | undefined>;
    /** @throws {AccessDeniedError} recorded; {ProblemError} `conflict` */
    decide(order: ApprovalDecision & { readonly id: string }, call: Call): Promise<ApprovalView | undefined>;
  };
  /** What channels send; each is judged by its signature. */
  readonly hooks: Hooks;
  readonly secrets: {
    list(page: { after: string; limit: number }): Promise<SecretPage>;
    get(name: string): Promise<SecretView | undefined>;
    put(order: { name: string; value: string; owner?: string | undefined }, call: Call): Promise<SecretView>;
    /** Replaces it at its upstream. */
    rotate(name: string, call: Call): Promise<SecretRotated>;
    remove(name: string, call: Call): Promise<boolean>;
  };
  readonly kills: {
    kill(order: KillOrder, call: Call): Promise<KillReceipt>;
    read(id: string, call: Call): Promise<KillReceipt | undefined>;
    list(query: KillsQuery): Promise<KillPage>;
    restore(order: RestoreOrder, call: Call): Promise<Restored>;
    /** The receipt as a signed JWS, `typ` `ephor-receipt+jwt`. */
    sign(receipt: KillReceipt): string;
  };
  readonly registry: {
    list(kind: TrustKind, page: { after: string | undefined; limit: number }): Promise<TrustPage>;
    get(kind: TrustKind, name: string): Promise<TrustObject | undefined>;
    put(
      object: { kind: TrustKind; name: string; spec: unknown },
      call: Call,
    ): Promise<{ object: TrustObject; isNew: boolean }>;
    delete(object: { kind: TrustKind; name: string }, call: Call): Promise<TrustDeleted | undefined>;
    setAgentStatus(order: AgentStatusRequest & { name: string }, call: Call): Promise<TrustObject | undefined>;
    apply(order: ApplyRequest, call: Call): Promise<ApplyResult>;
    /** From memory: what is public about a resource of ours. */
    resourceByIdentifier(identifier: string): { readonly name: string; readonly kind: string } | undefined;
  };
  readonly ledger: {
    chain(txn: string, call: Call): Promise<Chain | undefined>;
    who(id: string, call: Call): Promise<Who>;
    leases(query: LeaseQuery, call: Call): Promise<LeasePage>;
    query(query: AuditQuery, call: Call): Promise<AuditPage>;
    explain(id: string, call: Call): Promise<Explanation | undefined>;
    /** Lines of NDJSON, each with its line end. */
    export(query: ExportQuery, call: Call): AsyncIterable<string>;
    verify(call: Call): Promise<AuditVerdict>;
  };
  /** What resources that record keep of their calls. */
  readonly recordings: {
    /** Recorded, whatever is found. */
    read(event: string, call: Call): Promise<RecordingView | undefined>;
    /** @returns undefined where nothing was ever kept beside the event, or it went by itself */
    erase(order: { event: string; reason: string }, call: Call): Promise<RecordingsErased | undefined>;
  };
  readonly keys: {
    /** From memory, public members only; the first one of a database waits for the keys that clouds will look for. */
    jwks(): Promise<{ keys: readonly object[] }>;
    /** From memory, public members only. */
    recordJwks(): { keys: readonly object[] };
    rotate(order: { reason: string | undefined }, call: Call): Promise<KeyRotation>;
    /** Puts what is sealed under the present key-encryption key; a part of it, if there is much. */
    rewrap(order: { reason: string | undefined }, call: Call): Promise<Rewrap>;
  };
  /**
   * Looks once more whether an agent's token lives: it may have been killed while the body of the request came in.
   *
   * @throws {InvalidTokenError} `token_revoked`, recorded
   */
  readonly tokenStillLives: (caller: AgentCaller, request: RequestFacts) => Promise<void>;
  readonly readiness: () => Promise<ReadinessChecks>;
  /** Counts a refusal that no room saw (A-AUD-07). */
  readonly refusedAtEdge: (refusal: EdgeRefusal) => void;
}
