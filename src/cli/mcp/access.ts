/**
 * `cli/mcp` is the bridge between a host of MCP servers that cannot log in and a resource that Ephor proxies (CONTRACT §9,
 * `ephor mcp`): on standard input and output, or as a door on loopback. It keeps the task and the tokens, and relays messages.
 *
 * This file: tokens for one resource, renewed as they are used.
 */
import type { House, Place } from "../../sdk/client/house.ts";
import { EndedError, EphorError, KilledError } from "../../sdk/client/outcome.ts";
import { createRenewal } from "../../sdk/client/renewal.ts";
import { tokenFacts } from "../../sdk/client/token-facts.ts";
import { CliFailure, EXIT } from "../exit-code.ts";

/** Tokens for one resource. */
export interface Access {
  /**
   * A live token that has most of its life before it, because a call is cut at its token's end.
   *
   * @param insteadOf one that the resource no longer takes: another is fetched
   * @throws {EphorError} `KilledError` where the task or the agent was killed
   */
  token(insteadOf?: string): Promise<string>;
  /** Another token than any before: whether the work goes on at all is told by its failing. @throws {EphorError} */
  fresh(): Promise<string>;
}

/**
 * @param o.place the task
 * @param o.resource its name
 * @param o.reopen opens another task where this one has reached its deadline; absent: then it is over
 */
export function createAccess(o: {
  readonly house: House;
  readonly place: Place;
  readonly resource: string;
  readonly reopen?: () => Promise<Place>;
}): Access {
  const { house, resource } = o;
  let { place } = o;
  let latest: string | undefined;
  const tokens = createRenewal<string>(() => house.clock.monotonicMs());

  const fetchToken = (): Promise<{ access_token: string; expires_in: number }> =>
    house.told(
      () => place,
      () =>
        house.exchange({ target: resource, scopes: [resource], subject: { token: place.txn, type: "task" } }, false),
    );
  const fetchOrReopen = async (): ReturnType<typeof fetchToken> => {
    try {
      return await fetchToken();
    } catch (error) {
      if (!(error instanceof EndedError) || o.reopen === undefined) throw error;
      place = await o.reopen();
      return await fetchToken();
    }
  };

  const get = (): Promise<string> =>
    tokens.get("", async () => {
      const bornMs = house.clock.monotonicMs();
      const { access_token: value, expires_in: seconds } = await fetchOrReopen();
      latest = value;
      // Half of its life: it is renewed after a third, so that a long call still has the rest.
      return { value, bornMs, endMs: bornMs + seconds * 500, isOnce: tokenFacts(value).isOnce };
    });
  const fresh = (): Promise<string> => {
    tokens.clear();
    return get();
  };
  return { fresh, token: (insteadOf) => (insteadOf !== undefined && insteadOf === latest ? fresh() : get()) };
}

/** Why there is no token, as the command line can explain it: what the wire said. */
export function reasonOf(error: unknown): unknown {
  if (error instanceof KilledError)
    return new CliFailure(error.message, { exitCode: EXIT.unauthenticated, cause: error });
  return error instanceof EphorError && error.cause instanceof Error ? error.cause : error;
}
