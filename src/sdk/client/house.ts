import { readIssuer } from "./api.ts";
import { createDpopKey, type DpopKey } from "./dpop-key.ts";
import { ApiError } from "./errors.ts";
import { exchange, type Exchanged, type ExchangeOrder, type Proof } from "./exchange.ts";
import { DeniedError, KilledError, EndedError, NotAuthenticatedError, outcomeOf, type EphorError } from "./outcome.ts";
import { patiently } from "./patience.ts";
import type { Prover } from "./provers.ts";
import { readPlaceStatus } from "./tasks.ts";
import { tokenFacts } from "./token-facts.ts";

/** Where time comes from. */
export interface ClientClock {
  nowMs(): number;
  monotonicMs(): number;
}

/** A place in a task, as far as it is known. */
export interface Place {
  readonly txn: string;
  readonly node: string;
}

/** What all work of one agent shares: the server, the proof, the key. */
export interface House {
  readonly url: string;
  readonly clock: ClientClock;
  prove(): Promise<Proof>;
  issuer(): Promise<string>;
  /** A token; bound to this agent's key where `bound` and there is one. @throws {EphorError}, {ApiError}, {ConnectionError} */
  exchange(order: Omit<ExchangeOrder, "proof" | "dpop">, bound: boolean): Promise<Exchanged>;
  readonly dpop: () => Promise<DpopKey | undefined>;
  /**
   * Runs a request and says what became of it: where the answer does not tell a stranger that the work was stopped, its
   * own agent asks for the state of the task.
   *
   * @throws {EphorError}
   */
  told<T>(place: () => Place | undefined, call: () => Promise<T>): Promise<T>;
}

/** Codes under which a killed or ended task is refused, among other causes (RFC 8693 §2.2.2). */
const MAY_BE_STOPPED: ReadonlySet<string> = new Set(["invalid_request", "invalid_grant", "invalid_token"]);

/** @param o.isBound whether tokens are bound to a key of this process */
export function createHouse(o: { url: string; proof: Prover; isBound: boolean; clock: ClientClock }): House {
  const { url, clock } = o;
  /** Whether the server took a proof of this agent before. */
  let hasProved = false;
  let issuer: Promise<string> | undefined;
  let key: Promise<DpopKey> | undefined;
  let nonce: string | undefined;

  const dpop = async (): Promise<DpopKey | undefined> =>
    o.isBound ? await (key ??= createDpopKey(() => Math.floor(clock.nowMs() / 1000))) : undefined;
  const readOnce = (): Promise<string> => {
    issuer ??= patiently("always", () => readIssuer(url)).catch((error: unknown) => {
      issuer = undefined;
      throw error;
    });
    return issuer;
  };
  /** One request; a second one where the server wants its nonce in the proof (RFC 9449 §8). */
  const once = async (order: Omit<ExchangeOrder, "proof" | "dpop">, bound: boolean): Promise<Exchanged> => {
    const held = bound ? await dpop() : undefined;
    const send = async (): Promise<Exchanged> => {
      const proved = await held?.proof({
        method: "POST",
        url: `${await readOnce()}/token`,
        ...(nonce !== undefined && { nonce }),
      });
      return await exchange(url, { ...order, proof: await o.proof(), ...(proved !== undefined && { dpop: proved }) });
    };
    try {
      return await send();
    } catch (error) {
      const wants = error instanceof ApiError && error.code === "use_dpop_nonce" ? error.dpopNonce : undefined;
      if (wants === undefined || held === undefined) throw error;
      nonce = wants;
      return await send();
    }
  };

  const stoppedOr = async (outcome: EphorError, place: Place | undefined): Promise<EphorError> => {
    const isDoubtful =
      outcome instanceof NotAuthenticatedError || (outcome instanceof DeniedError && MAY_BE_STOPPED.has(outcome.code));
    if (!isDoubtful || place === undefined || !hasProved) return outcome;
    const facts = { code: outcome.code, status: outcome.status, requestId: outcome.requestId };
    let isFresh = false;
    try {
      const status = await patiently("always", async () => {
        const proof = await o.proof();
        isFresh = isStillValid(proof, clock);
        return await readPlaceStatus(url, proof, place);
      });
      if (status === "killed") return new KilledError("task", facts, { cause: outcome });
      if (status === "ended" || status === "expired")
        return new EndedError(`the task has ${status}`, facts, { cause: outcome });
      return outcome;
    } catch (error) {
      // It was taken before, and is not out of date: what changed is what the server thinks of this agent.
      const isCastOut = error instanceof NotAuthenticatedError && error.status === 401 && isFresh;
      return isCastOut ? new KilledError("agent", facts, { cause: outcome }) : outcome;
    }
  };

  return {
    url,
    clock,
    dpop,
    prove: o.proof,
    issuer: readOnce,
    exchange: (order, bound) => patiently("always", () => once(order, bound)),
    async told(place, call) {
      try {
        const result = await call();
        hasProved = true;
        return result;
      } catch (error) {
        const outcome = outcomeOf(error);
        throw outcome === undefined ? error : await stoppedOr(outcome, place());
      }
    },
  };
}

function isStillValid(proof: Proof, clock: ClientClock): boolean {
  const token = "workloadToken" in proof ? proof.workloadToken : proof.clientAssertion;
  return (tokenFacts(token).exp ?? 0) > clock.nowMs() / 1000;
}
