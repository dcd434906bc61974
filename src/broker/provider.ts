/**
 * The room `broker` vends downstream credentials and ends them. It owns the vend pipeline, leases and their destruction;
 * providers are its plug-ins. It never decides: `authz` does, twice for each vend (intent before the mint, release after it).
 *
 * This file is the socket of a provider, and its contract:
 * - `mint` makes one credential for one lease, narrowed to the order, dead at `endsAt` or as soon after as the upstream can.
 *   It may be called once per lease. When it throws, or `signal` fires, nothing it made may stay usable that `destroy` could
 *   not end by `handle`; where the upstream makes the name (a token), it tries to undo what it made before it throws.
 * - `destroy` ends it early. It must be safe to call twice, and after a crash between mint and record: then `handle` is
 *   undefined and only what follows from the lease's id can be ended. It resolves when the upstream has confirmed.
 * - Secrets come opened in `order.secrets` and are wiped by the caller afterwards; no provider keeps, logs or throws one.
 *   An error's message holds no upstream text: throw `ProviderError` with a code.
 * - `rotation` replaces one of the vault's own secrets at the upstream; see {@link SecretRotation}.
 * - A provider imports core, system and its client library; never `vault`, `db` or `authz`.
 */
import type { ZodType } from "zod";
import type { EpochSeconds } from "../core/time.ts";
import type { Egress } from "../system/egress.ts";
import type { SecretText } from "./secret-text.ts";

/** One way of making downstream credentials. */
export interface CredentialProvider<S = unknown> {
  /** As the trust file spells it: `credential: { <kind>: settings }`. */
  readonly kind: string;
  /** Shape of its settings; strict, so that a mistyped key stops the apply. */
  readonly settings: ZodType<S>;
  /**
   * Names of the vault's secrets that a mint uses; without `lease`, those that can be told from the settings alone. With it,
   * also those that each human has of their own.
   */
  secrets(settings: S, lease?: LeaseFacts): readonly string[];
  /** Names of those that `destroy` uses, where they are fewer: one that is gone by then must not keep a lease alive. */
  secretsToDestroy?(settings: S): readonly string[];
  /**
   * Names of those that a mint may replace (`Minted.rotated`). The broker mints one lease at a time for each, over all
   * replicas, and opens it only then: a refresh token used twice looks stolen, and its whole grant dies (RFC 9700 §4.14.2).
   */
  rotates?(settings: S, lease: LeaseFacts): readonly string[];
  /** Absent where none of its secrets can be replaced through the upstream itself. */
  readonly rotation?: SecretRotation<S>;
  mint(order: MintOrder<S>, signal: AbortSignal): Promise<Minted>;
  /** Absent where the upstream cannot end anything early: then `residual_seconds` says how long it lives on. */
  destroy?(lease: LeaseHandle<S>, signal: AbortSignal): Promise<void>;
  /** What would be left alive after the lease's end in the worst case, in seconds; 0 where it is dead at the end. */
  residualSeconds(settings: S): number;
}

/** Who gets it, for whom, and why: written into the credential wherever the upstream has room for it. */
export interface LeaseFacts {
  /** `lease_<ulid>`. */
  readonly id: string;
  readonly resource: string;
  readonly agent: string;
  readonly owner: string;
  /** Agents, oldest first. */
  readonly path: readonly string[];
  /** `<issuer>|<sub>` of the human, or `agent|<name>`. */
  readonly sub: string;
  readonly email?: string;
  readonly txn: string;
  readonly jti: string;
  readonly traceId?: string;
  readonly purpose?: string;
}

/** An order for one credential. */
export interface MintOrder<S> {
  readonly settings: S;
  readonly lease: LeaseFacts;
  /** Values by secret name. */
  readonly secrets: ReadonlyMap<string, SecretText>;
  /** Session policies that the grants name, all of which bind. */
  readonly policies: readonly string[];
  /** By the database's clock. */
  readonly issuedAt: EpochSeconds;
  /** When it must be dead. */
  readonly endsAt: EpochSeconds;
  readonly upstream: Upstream;
}

/** What a provider reaches its upstream with. */
export interface Upstream {
  readonly egress: Egress;
  /**
   * A web-identity token for a cloud, `sub` = `resource|<name>`; signed here and leaving only towards that cloud's STS. It
   * lives a minute: ask for another for each request.
   *
   * @throws {ProviderError} `unavailable`
   */
  readonly webIdentity?: (audience: string, claims?: UpstreamClaims) => Promise<string>;
}

/** What a cloud wants to read beside the registered claims, under names that nobody else can mean (RFC 7519 §4.2). */
export type UpstreamClaims = Readonly<Record<`https://${string}`, unknown>>;

/** What came out of a mint. */
export interface Minted {
  /** The part `credential` of the answer, in the form that its native tools read. Holds secrets. */
  readonly credential: Readonly<Record<string, string | number | readonly string[]>>;
  /** What `destroy` needs; stored sealed. */
  readonly handle: Readonly<Record<string, string>>;
  /** When the upstream itself lets it die, if later than the lease's end. */
  readonly upstreamExpiresAt?: EpochSeconds;
  /** Names under which it will be seen: `who` leads from each back to the chain. Never a secret; of a token its SHA-256. */
  readonly marks: readonly Mark[];
  /** What the upstream gave in place of one of our secrets: stored before the credential is released. */
  readonly rotated?: RotatedSecret;
}

/** A new version of a secret. The old one is dead or dying, so losing this one loses the access. */
export interface RotatedSecret {
  /** Its name in the vault. */
  readonly secret: string;
  readonly value: SecretText;
}

/**
 * How a secret of the vault is replaced at its upstream. The broker runs one rotation of a secret at a time, over all replicas;
 * it seals a value that we make before the upstream hears of it, and asks `which` counts whenever that is not certain.
 */
export type SecretRotation<S> = RotationByUs<S> | RotationByUpstream<S> | RotationBeside<S>;

interface RotationFacts<S> {
  /** Whether this secret is one that can be replaced. */
  covers(settings: S, secret: string): boolean;
  /** What the secret opens: the same text for two resources exactly when a change for one is a change for the other. */
  place(settings: S): string;
  /** How often it is to be replaced without being asked, in seconds; undefined: never. */
  everySeconds?(settings: S): number | undefined;
  /** Names of the secrets that it takes, the replaced one among them. */
  secrets(settings: S, secret: string): readonly string[];
}

/** We make the new value, as a password. */
export interface RotationByUs<S> extends RotationFacts<S> {
  readonly by: "us";
  /** A new value in the form of the present one. Nothing is asked of the upstream. */
  next(order: RotationOrder<S>): SecretText;
  /**
   * Makes the upstream take `next` in place of the present value, and proves by use that it lets in the one and no more the
   * other. When it throws it has tried to have the upstream as it was.
   */
  change(order: RotationOrder<S> & { readonly next: SecretText }, signal: AbortSignal): Promise<void>;
  /**
   * Which of the two the upstream lets in, where no `change` that others began can come after it; undefined: neither.
   *
   * @throws {ProviderError} when nobody can say now
   */
  which(
    order: RotationOrder<S> & { readonly next: SecretText },
    signal: AbortSignal,
  ): Promise<"present" | "next" | undefined>;
}

/** The upstream makes the new value when it is shown the present one, as for refresh tokens: that one is dead then, or dying. */
export interface RotationByUpstream<S> extends RotationFacts<S> {
  readonly by: "upstream";
  exchange(order: RotationOrder<S>, signal: AbortSignal): Promise<SecretText>;
}

/**
 * The upstream makes the new value beside the present one and lets in both until one of them is ended, as for access keys. What is
 * to be ended is sealed as the version that waits before it can come to be: first a mark by which a value whose answer was lost is
 * told from those of others, then the new value, and when that counts, a mark of the old one.
 */
export interface RotationBeside<S> extends RotationFacts<S> {
  readonly by: "beside";
  /**
   * Changes nothing at the upstream.
   *
   * @returns the mark of what `make` may leave behind
   * @throws {ProviderError} also where there is no room for another value
   */
  begin(order: RotationOrder<S>, signal: AbortSignal): Promise<SecretText>;
  /**
   * Makes the new value.
   *
   * @throws {ProviderError} `unreachable`, `unavailable`, `answer_malformed` where it may have been made all the same
   */
  make(order: RotationOrder<S>, signal: AbortSignal): Promise<SecretText>;
  /** Waits until the upstream lets it in. */
  prove(order: RotationOrder<S> & { readonly next: SecretText }, signal: AbortSignal): Promise<void>;
  /**
   * The mark by which a value, or what a mark of `begin` stands for, is to be ended whatever happens. That of such a mark is the
   * very mark.
   */
  markOf(value: SecretText): SecretText;
  /** Ends what a mark or a value names, never the present one. Safe to call twice; nothing to end is fine. */
  end(order: RotationOrder<S> & { readonly left: SecretText }, signal: AbortSignal): Promise<void>;
}

/** An order to replace one secret. */
export interface RotationOrder<S> {
  readonly settings: S;
  /** Its name in the vault. */
  readonly secret: string;
  /** The present values, by name. */
  readonly secrets: ReadonlyMap<string, SecretText>;
  readonly upstream: Upstream;
}

/** A name under which a credential is seen at its upstream. */
export interface Mark {
  readonly kind:
    | "aws_access_key_id"
    | "aws_role_session_name"
    | "database_role"
    | "token_sha256"
    | "ssh_serial"
    | "ssh_key_id";
  readonly value: string;
}

/** What is known when a credential is to be ended. */
export interface LeaseHandle<S> {
  readonly settings: S;
  readonly lease: LeaseFacts;
  readonly secrets: ReadonlyMap<string, SecretText>;
  /** Undefined after a crash between mint and record. */
  readonly handle: Readonly<Record<string, string>> | undefined;
  readonly upstream: Upstream;
}
