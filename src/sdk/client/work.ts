import type { DpopKey } from "./dpop-key.ts";
import type { Exchanged, TypedToken } from "./exchange.ts";
import type { House, Place } from "./house.ts";
import { DeniedError, outcomeOf } from "./outcome.ts";
import { patiently } from "./patience.ts";
import { createRenewal } from "./renewal.ts";
import { completeTask } from "./tasks.ts";
import { tokenFacts } from "./token-facts.ts";
import { vendWith, type Vended } from "./vend.ts";

/** What a token is wanted for. */
export interface TokenOrder {
  /** The resource's identifier, or its name in the trust file. */
  readonly resource: string;
  /** In full: `billing:read_invoice`. */
  readonly scopes: readonly string[];
  /** Why; recorded, and carried by the token. */
  readonly purpose?: string;
  /** Seconds, 1 to 59. */
  readonly ttlSeconds?: number;
}

/** A token for one resource. */
export interface AccessToken {
  readonly token: string;
  readonly scheme: "Bearer" | "DPoP";
  readonly scopes: readonly string[];
  /** Seconds that it lived when it was given out by the server. */
  readonly lifeSeconds: number;
  /** Headers for one request to the resource: `Authorization`, and a proof where the token is bound to a key. */
  headers(request: { readonly method: string; readonly url: string }): Promise<Record<string, string>>;
}

/** One task, or a part of one, of this agent. */
export interface Work {
  /** The task's id; undefined until the first token of work that opens its task by itself. */
  readonly txn: string | undefined;
  /**
   * A live token for a resource. The same order gets the same token until shortly before its end, then a new one; a once-only
   * token is a new one each time. Ask each time you call the resource.
   *
   * @throws {EphorError}
   */
  exchange(order: TokenOrder): Promise<AccessToken>;
  /**
   * Hands over to another agent: a token that only that agent can redeem, within a minute. Send it along with the work.
   *
   * @param order.to the agent's name
   * @throws {EphorError}
   */
  handOver(order: Omit<TokenOrder, "resource"> & { readonly to: string }): Promise<string>;
  /**
   * A downstream credential, renewed before its lease ends. The value of `credential` is secret.
   *
   * @param resource its name
   * @throws {EphorError}
   */
  vend(resource: string, order?: { readonly purpose?: string }): Promise<Vended>;
  /** Ends the task (or this agent's part of it) with everything made under it. Ending twice is no error. @throws {EphorError} */
  complete(): Promise<void>;
}

/** How work goes on. */
export interface Beginning {
  /** By what the first request continues or opens a task; absent: the agent for itself. */
  readonly subject?: TypedToken;
  /** Where it stands already. */
  readonly place?: Place;
  /** Whether later requests name the task in place of the subject, which ends sooner. */
  readonly byHandle: boolean;
}

/** Work of one agent under one task. */
export function createWork(house: House, beginning: Beginning): Work {
  const { clock, url } = house;
  let place = beginning.place;
  const tokens = createRenewal<AccessToken>(() => clock.monotonicMs());
  const leases = createRenewal<Vended>(() => clock.monotonicMs());
  const handOverJti = beginning.subject?.type === "accessToken" ? tokenFacts(beginning.subject.token).jti : undefined;

  const subject = (): TypedToken | undefined =>
    place !== undefined && beginning.byHandle ? { token: handleOf(place), type: "task" } : beginning.subject;
  const note = (token: string): void => {
    const { txn } = tokenFacts(token);
    if (txn === undefined || (place !== undefined && beginning.byHandle)) return;
    // The place that a hand-over makes is named after it; whoever opened the task is at its root.
    place = { txn, node: handOverJti ?? txn };
  };

  const fetchToken = async (order: { target: string } & Omit<TokenOrder, "resource">, bound: boolean) => {
    const bornMs = clock.monotonicMs();
    const given = await house.told(
      () => place,
      () => redeemedOnce(subject(), (by) => house.exchange({ ...order, subject: by }, bound)),
    );
    note(given.access_token);
    // Counted from before the request left: never longer than the server means.
    return { given, bornMs, endMs: bornMs + given.expires_in * 1000 };
  };

  return {
    get txn() {
      return place?.txn;
    },
    exchange({ resource, ...order }) {
      const key = JSON.stringify([resource, [...order.scopes].sort(), order.purpose, order.ttlSeconds]);
      return tokens.get(key, async () => {
        const { given, ...life } = await fetchToken({ target: resource, ...order }, true);
        const { isOnce } = tokenFacts(given.access_token);
        return { ...life, isOnce, value: accessToken(given, await house.dpop()) };
      });
    },
    async handOver({ to, ...order }) {
      const { given } = await fetchToken({ target: `${await house.issuer()}/agents/${to}`, ...order }, false);
      return given.access_token;
    },
    vend: (resource, { purpose } = {}) =>
      leases.get(resource, async () => {
        // Unbound: it is used at once, by this process, at the server that made it.
        const { given } = await fetchToken(
          { target: resource, scopes: [`${resource}:vend`], ...(purpose !== undefined && { purpose }) },
          false,
        );
        const bornMs = clock.monotonicMs();
        const value = await house.told(
          () => place,
          () => patiently("unsent", () => vendWith(url, resource, given.access_token)),
        );
        return { value, bornMs, endMs: bornMs + Date.parse(value.expires_at) - clock.nowMs() };
      }),
    async complete() {
      const at = place;
      tokens.clear();
      leases.clear();
      if (at === undefined) return;
      await house.told(
        () => at,
        () => patiently("always", async () => completeTask(url, await house.prove(), at.txn)),
      );
    },
  };
}

function accessToken(given: Exchanged, key: DpopKey | undefined): AccessToken {
  const { access_token: token, token_type: type, expires_in: lifeSeconds } = given;
  const scheme = type.toLowerCase() === "dpop" ? "DPoP" : "Bearer";
  return {
    token,
    scheme,
    scopes: given.scope.split(" "),
    lifeSeconds,
    headers: async (request) => ({
      authorization: `${scheme} ${token}`,
      ...(scheme === "DPoP" && key && { dpop: await key.proof({ ...request, token }) }),
    }),
  };
}

/**
 * A once-only hand-over is redeemed once: whoever comes together with the first request, or did not get its answer, names the
 * place that it made.
 */
async function redeemedOnce(
  subject: TypedToken | undefined,
  send: (by: TypedToken | undefined) => Promise<Exchanged>,
): Promise<Exchanged> {
  try {
    return await send(subject);
  } catch (error) {
    const { txn, jti: node, isOnce } = tokenFacts(subject?.type === "accessToken" ? subject.token : "");
    const outcome = outcomeOf(error);
    const mayBeRedeemed = isOnce && outcome instanceof DeniedError && outcome.code === "invalid_request";
    if (!mayBeRedeemed || txn === undefined || node === undefined) throw error;
    try {
      return await send({ token: handleOf({ txn, node }), type: "task" });
    } catch {
      throw error;
    }
  }
}

/** The opener's place is named by the task alone. */
function handleOf({ txn, node }: Place): string {
  return node === txn ? txn : `${txn}.${node}`;
}

/** Refuses what is no hand-over before anything is sent. @throws {DeniedError} */
export function requireHandOver(token: string): void {
  const { txn, jti } = tokenFacts(token);
  if (txn === undefined || jti === undefined)
    throw new DeniedError("this is no hand-over token", { code: "invalid_request" });
}
