import type { KillPairs } from "../authz/ask.ts";
import type { StreamHandle, Streams } from "../authz/streams.ts";
import { AccessDeniedError, InvalidTokenError, OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Allowed } from "../core/grants/decision.ts";
import { MAX_LIFETIME_SECONDS } from "../core/token/lifetime.ts";
import { accountOf, AccountNeededError, isAccountRefused, type Account } from "./account.ts";
import type { BrokerDeps } from "./deps.ts";
import { leaseAbandoned } from "./leases.ts";
import type { LeaseFacts, Minted } from "./provider.ts";
import { vendThroughRotation } from "./vend-through-rotation.ts";
import type { CredentialResource, Holder } from "./vend-order.ts";

/** Limits, each with its reason. */
const LIMITS = {
  /** Of an AWS session: nobody can end one, so its own end is its policy's, as for one that is vended. */
  awsSeconds: MAX_LIFETIME_SECONDS,
  /** Of an access token: it dies with its lease, the task or a kill; asking for one each minute would tire its server. */
  oauthSeconds: 300,
  /** It is not used so shortly before its end: a call takes time, and clocks differ. */
  spareSeconds: 10,
  /** An upstream that refuses one that is so new would refuse the next as well. */
  newSeconds: 30,
  /** Kept in memory; the oldest makes room. */
  kept: 10_000,
} as const;

/** A resource's wish for what another makes. */
export interface CredentialUse {
  readonly kind: "aws" | "oauth";
  /** Name of the credential resource. */
  readonly resource: string;
  /** Of its session policies the one that narrows what is made. */
  readonly policy?: string | undefined;
}

/** A call that needs a credential. */
export interface InjectionOrder {
  /** Name of the resource that is called. */
  readonly into: string;
  readonly use: CredentialUse;
  readonly holder: Holder;
  readonly requestId: string;
  /** Decides on the call as it is now. @throws whatever refuses it */
  readonly judge: () => Allowed;
}

/** A credential that may be put into calls of one agent's place in one task, as long as the gate sees nothing that kills it. */
export interface InjectedCredential {
  readonly lease: string;
  /** To be asked about with each call. */
  readonly kill: KillPairs;
  /** Hands it to `fn`; nothing that `fn` returns may hold it longer than the call needs. */
  use<T>(fn: (credential: Minted["credential"]) => T): T;
  /** Its upstream refused it: the next call gets another, unless this one is so new that another would fare no better. */
  refused(): void;
  /** The gate saw that it is dead. */
  forget(): void;
}

/** Credentials for proxied calls. Only their making is saved by keeping them; each call is decided on by itself. */
export interface InjectedCredentials {
  /**
   * One that this place has, or a new one: with a lease of its own, recorded and released as a vend is.
   *
   * @throws {AccountNeededError} its human has connected no account; {AccessDeniedError} the upstream refuses;
   * {InvalidTokenError} killed or ended; {TemporarilyUnavailableError} the upstream or the database is away; what `judge` throws
   */
  obtain(order: InjectionOrder): Promise<InjectedCredential>;
}

interface Made extends InjectedCredential {
  readonly maker: CredentialResource;
  /** Of the account that it was made of. */
  readonly version: number;
  readonly stream: StreamHandle;
}

interface Found {
  readonly found: Made | undefined;
  readonly account: Account | undefined;
}

/** What is kept, by place and use. */
interface Kept {
  find(key: string): Made | undefined;
  keep(key: string, one: Made): void;
  drop(key: string, one: Made): void;
  /** Nobody needs it any more, before its time: it is due now. */
  end(key: string, one: Made): void;
}

/** @param deps.streams tells what a kill covers, at once and on every replica */
export function createInjectedCredentials(deps: BrokerDeps & { readonly streams: Streams }): InjectedCredentials {
  const kept = createKept(deps);
  const making = new Map<string, Promise<Made>>();

  /** One at a time for each place: whoever waits gets what was made, and tries by himself where it was the other who failed. */
  async function made(key: string, work: () => Promise<Made>): Promise<Made> {
    for (let other = making.get(key); other !== undefined; other = making.get(key)) {
      try {
        return await other;
      } catch (error) {
        if (isUpstreams(error)) throw error;
      }
    }
    const mine = work().finally(() => making.delete(key));
    making.set(key, mine);
    return await mine;
  }

  /** What there is, and the account behind it as it is now. */
  async function lookedUp(order: InjectionOrder, maker: CredentialResource, key: string): Promise<Found> {
    for (;;) {
      const found = kept.find(key);
      if (order.use.kind !== "oauth") return { found, account: undefined };
      const account = await accountFor(deps, order, { maker, since: found?.version ?? 0 });
      // Somebody made another meanwhile: then it is that one's account that has to be looked at.
      if (kept.find(key) === found) return { found, account };
    }
  }

  return {
    async obtain(order) {
      const { use, holder, into } = order;
      const maker = makerOf(deps, use);
      const key = [into, use.resource, use.policy ?? "", holder.node, holder.agent.name].join(" ");
      const { found, account } = await lookedUp(order, maker, key);
      if (found?.maker === maker && account?.isNew !== true && found.stream.mayFlow()) return found;
      if (found !== undefined && found.stream.cut === undefined) kept.end(key, found);
      const version = account?.version ?? 0;
      try {
        return await made(key, () => make({ ...deps, kept }, order, { maker, version, key }));
      } catch (error) {
        if (account === undefined || !isAccountRefused(error)) throw error;
        throw new AccountNeededError({ resource: maker.name, ...account, isRefused: true });
      }
    },
  };
}

function createKept(deps: BrokerDeps): Kept {
  const all = new Map<string, Made>();
  function drop(key: string, one: Made): void {
    one.stream.close();
    if (all.get(key) === one) all.delete(key);
  }
  return {
    find: (key) => all.get(key),
    drop,
    end(key, one) {
      drop(key, one);
      leaseAbandoned(deps.db, one.lease, deps.clock.nowMs()).catch((err: unknown) =>
        deps.log.warn("injected_lease_not_ended", { name: one.lease, err }),
      );
    },
    keep(key, one) {
      // One that has hardly any time left serves this call only.
      if (!one.stream.mayFlow()) return;
      for (const [oldest, its] of all) {
        if (all.size < LIMITS.kept) break;
        drop(oldest, its);
      }
      all.set(key, one);
    },
  };
}

/** Makes one, with a lease of its own. */
async function make(
  deps: BrokerDeps & { readonly streams: Streams; readonly kept: Kept },
  order: InjectionOrder,
  at: { readonly maker: CredentialResource; readonly version: number; readonly key: string },
): Promise<Made> {
  const { kept, clock } = deps;
  const { maker, version, key } = at;
  const { into, use, holder, requestId, judge } = order;
  const lifeSeconds = use.kind === "aws" ? LIMITS.awsSeconds : LIMITS.oauthSeconds;
  const policies = use.policy === undefined ? [] : [use.policy];
  const injected = { into, judge, lifeSeconds, policies };
  const vended = await vendThroughRotation(deps, { resource: maker, holder, requestId, injected });
  if (!vended.permit.spend(clock.monotonicMs())) {
    deps.authorizer.withheld(vended.permit);
    await leaseAbandoned(deps.db, vended.lease, clock.nowMs()).catch(() => {});
    throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
  }
  const { credential, kill, lease } = vended;
  const madeAt = clock.now();
  const { expires_at: expiresAt = vended.expiresAt } = credential;
  const stream = deps.streams.open({
    keys: kill.keys,
    epoch: Math.max(...kill.epochs),
    exp: Math.min(vended.expiresAt, Number(expiresAt)) - LIMITS.spareSeconds,
    onCut: () => kept.drop(key, one),
  });
  const one: Made = {
    lease,
    kill,
    maker,
    version,
    stream,
    use: (fn) => fn(credential),
    forget: () => kept.drop(key, one),
    refused() {
      if (clock.now() - madeAt >= LIMITS.newSeconds) kept.end(key, one);
    },
  };
  kept.keep(key, one);
  return one;
}

function makerOf(deps: BrokerDeps, { kind, resource }: CredentialUse): CredentialResource {
  const maker = deps.trust().resourceByName(resource);
  if (maker?.kind === "credential" && maker.provider === kind) return maker;
  throw new AccessDeniedError({ reason: "target_unknown", credential: resource });
}

async function accountFor(
  deps: BrokerDeps,
  { holder }: InjectionOrder,
  { maker, since }: { maker: CredentialResource; since: number },
): Promise<Account | undefined> {
  const place = await deps.places.find(holder.txn, holder.node);
  if (!place) throw new InvalidTokenError({ reason: "token_unknown" });
  const { subject } = place.task;
  const { agent, claims, txn } = holder;
  const facts: LeaseFacts = {
    id: "",
    resource: maker.name,
    agent: agent.name,
    owner: agent.owner,
    path: place.node.path,
    sub: subject.sub,
    txn,
    jti: claims.jti,
  };
  return await accountOf(deps, maker, { facts, subject, since });
}

/** Whether everybody who asked at that moment would have failed so. */
function isUpstreams(error: unknown): boolean {
  return (
    error instanceof OAuthError && (error.reason === "upstream_refused" || error.reason === "upstream_unavailable")
  );
}
