import type { KillPairs } from "../authz/ask.ts";
import { InvalidTokenError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Permit } from "../core/permit.ts";
import { MAX_IDENTITY_SECONDS } from "../keys/identity-signer.ts";
import { ulid } from "../system/random.ts";
import type { BrokerDeps } from "./deps.ts";
import type { UpstreamClaims, LeaseFacts, Upstream } from "./provider.ts";
import { ProviderError } from "./provider-error.ts";

/** Why an upstream is called: for which lease or rotation, by whom (the agent, or `ephor`), and what would stop it. */
export interface Occasion {
  readonly lease: Pick<LeaseFacts, "id" | "resource"> & Partial<Pick<LeaseFacts, "sub" | "txn">>;
  readonly actor: string;
  /** What kills the mint of a lease; absent where one is ended, which no kill may stop. */
  readonly kill?: KillPairs;
}

const NO_KILL: KillPairs = { keys: [], epochs: [] };

/** What a provider reaches its upstream with, in one call of it. */
export function upstreamFor(deps: BrokerDeps, occasion: Occasion): Upstream {
  return { egress: deps.egress, webIdentity: webIdentityFor(deps, occasion) };
}

/**
 * Web-identity tokens for one call of a provider: `iss` is Ephor, `sub` is `resource|<name>`, `aud` one string. Each has a
 * permit and an event of its own, lives a minute, and is held by nobody but the provider that sends it.
 */
function webIdentityFor(deps: BrokerDeps, occasion: Occasion): NonNullable<Upstream["webIdentity"]> {
  const sub = `resource|${occasion.lease.resource}`;
  let { kill = NO_KILL } = occasion;
  return async (audience, claims = {}) => {
    refuseShortNames(claims);
    const jti = ulid(deps.clock.nowMs());
    const asked = { sub, audience, jti, kill };
    // The ones after the first may be what undoes a mint.
    kill = NO_KILL;
    try {
      // First: making keys takes longer than a permit lives.
      await deps.identity.ready();
      const permit = await permitted(deps, occasion, asked);
      const iat = deps.clock.now();
      const registered = { iss: deps.issuer, sub, aud: audience, iat, exp: iat + MAX_IDENTITY_SECONDS, jti };
      return deps.identity.sign(permit, { ...claims, ...registered });
    } catch (error) {
      if (!(error instanceof TemporarilyUnavailableError)) throw error;
      // In a provider's words, so that what it has to undo or to keep is not forgotten over it.
      throw new ProviderError("unavailable", { code: error.reason, cause: error });
    }
  };
}

/** Nothing is signed without a permit, to end a lease neither: it is decided and recorded like everything else. */
async function permitted(
  deps: BrokerDeps,
  { lease, actor }: Occasion,
  { sub, audience, jti, kill }: { sub: string; audience: string; jti: string; kill: KillPairs },
): Promise<Permit> {
  const result = await deps.authorizer.authorize(() => ({
    value: undefined,
    ask: {
      action: "identity.sign",
      target: sub,
      actor,
      trustVersion: deps.trust().version,
      kill,
      event: {
        type: "identity.sign",
        agent: actor,
        sub: lease.sub,
        txn: lease.txn,
        jti,
        resource: lease.resource,
        facts: { lease: lease.id, subject: sub, audience, trust_version: deps.trust().version },
      },
    },
  }));
  if (result.outcome === "granted") return result.permit;
  throw new InvalidTokenError({ reason: result.outcome === "continue" ? "internal" : result.outcome });
}

/** RFC 7519 §4.2: a URI collides with nothing, so no provider can change what we say of ourselves. */
function refuseShortNames(claims: UpstreamClaims): void {
  const short = Object.keys(claims).find((name) => !name.startsWith("https://"));
  if (short !== undefined) throw new TypeError(`web identity: ${short} is no name of a provider's claim`);
}
