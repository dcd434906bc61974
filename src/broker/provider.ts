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
  /** A web-identity token for a cloud, `sub` = `resource|<name>`; signed here and leaving only towards that cloud's STS. */
  readonly webIdentity?: (audience: string) => Promise<string>;
}

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
