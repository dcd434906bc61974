import { AccessDeniedError } from "../core/oauth/errors.ts";
import type { Subject } from "../core/trust/subject.ts";
import { givenAnew } from "../vault/given-anew.ts";
import type { BrokerDeps } from "./deps.ts";
import type { LeaseFacts } from "./provider.ts";
import { ProviderError } from "./provider-error.ts";
import type { CredentialResource } from "./vend-order.ts";

/** What an upstream answers where only the person behind an account can help, by consenting again (RFC 6749 §5.2, OIDC Core §3.1.2.6). */
const CONSENT_CODES: ReadonlySet<string | undefined> = new Set([
  "invalid_grant",
  "consent_required",
  "interaction_required",
  "login_required",
]);

/** The account at an upstream of the human for whom a task runs is needed, and there is none, or it is let in no more. */
export class AccountNeededError extends AccessDeniedError {
  /** The credential resource. */
  readonly resource: string;
  readonly sub: string;
  /** Name of the vault's secret that the account would be; undefined where no human is behind the task. */
  readonly secret: string | undefined;

  constructor(of: { resource: string; sub: string; secret?: string | undefined; isRefused?: boolean }) {
    const { resource, sub, secret, isRefused = false } = of;
    super(
      secret === undefined
        ? { reason: "human_missing", credential: resource }
        : { reason: "account_not_connected", credential: resource, secret, refused: isRefused },
    );
    this.resource = resource;
    this.sub = sub;
    this.secret = secret;
  }
}

/** A human's own secret, at a resource where each has one. */
export interface Account {
  readonly secret: string;
  readonly sub: string;
  /** The version that counts. */
  readonly version: number;
  /** Somebody gave another value since the version that was asked for. */
  readonly isNew: boolean;
}

/**
 * The account that a credential for this subject is made of.
 *
 * @param at.since a version of it, of which the caller has a credential
 * @returns undefined where the resource makes no difference between people
 * @throws {AccountNeededError}
 */
export async function accountOf(
  deps: BrokerDeps,
  resource: CredentialResource,
  at: { facts: LeaseFacts; subject: Subject; since: number },
): Promise<Account | undefined> {
  const provider = deps.kinds.get(resource.provider);
  const parsed = provider?.settings.safeParse(resource.settings);
  if (!provider || !parsed?.success) return undefined;
  const everybodys = new Set(provider.secrets(parsed.data));
  const secret = provider.secrets(parsed.data, at.facts).find((name) => !everybodys.has(name));
  if (secret === undefined) return undefined;
  const { sub } = at.facts;
  if (at.subject.type !== "human") throw new AccountNeededError({ resource: resource.name, sub });
  const given = await givenAnew(deps.db, secret, at.since);
  if (given === undefined) throw new AccountNeededError({ resource: resource.name, sub, secret });
  return { secret, sub, ...given };
}

/** Whether a mint failed because the upstream lets the account in no more. */
export function isAccountRefused(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof ProviderError && cause.problem === "credentials_refused" && CONSENT_CODES.has(cause.code);
}
