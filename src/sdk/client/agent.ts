import type { TypedToken } from "./exchange.ts";
import { createHouse, type ClientClock } from "./house.ts";
import { patiently } from "./patience.ts";
import type { Prover } from "./provers.ts";
import { openTask } from "./tasks.ts";
import { createWork, requireHandOver, type Work } from "./work.ts";

/** What a client is made of. */
export interface ClientOptions {
  /** The server's URL. */
  readonly url: string;
  /** Who this agent is: `platformProof`, `fileProof`, `keyProof`, or a function of your own. */
  readonly proof: Prover;
  /** Binds tokens to a key that is made for this process (RFC 9449); default false. */
  readonly dpop?: boolean;
  readonly clock?: ClientClock;
}

/** An agent's side of Ephor. As {@link Work} it is the agent's work for itself, under the task that its first token opens. */
export interface Client extends Work {
  /**
   * Opens a task: everything done under it ends together.
   *
   * @param order.deadline epoch seconds; the server's default where it is not said
   * @param order.scopes its ceiling
   * @param order.onBehalfOf a human's token; absent: the agent for itself
   * @throws {EphorError}
   */
  openTask(order: {
    readonly purpose: string;
    readonly deadline?: number;
    readonly scopes?: readonly string[];
    readonly onBehalfOf?: TypedToken;
  }): Promise<Work>;
  /** Work on behalf of a human, under the task that its first token opens. */
  onBehalfOf(subject: TypedToken): Work;
  /**
   * Work that another agent handed over. The first token has to be asked for while the hand-over lives; from then on the task's
   * own deadline counts.
   *
   * @throws {DeniedError} for what is no hand-over
   */
  redeem(handOver: string): Work;
}

/** Makes a client. Nothing is sent until something is asked for, and no timer runs. */
export function createClient(options: ClientOptions): Client {
  const { proof, dpop: isBound = false } = options;
  const clock = options.clock ?? { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
  const url = options.url.replace(/\/+$/, "");
  if (!URL.canParse(url)) throw new TypeError("url: the URL of your Ephor, such as https://sts.acme.example");
  const house = createHouse({ url, proof, isBound, clock });
  const own = createWork(house, { byHandle: false });
  return {
    get txn() {
      return own.txn;
    },
    exchange: own.exchange,
    handOver: own.handOver,
    vend: own.vend,
    complete: own.complete,
    async openTask({ onBehalfOf, ...order }) {
      const { txn } = await house.told(
        () => undefined,
        () => patiently("unsent", async () => openTask(url, await house.prove(), { ...order, subject: onBehalfOf })),
      );
      return createWork(house, { place: { txn, node: txn }, byHandle: true });
    },
    onBehalfOf: (subject) => createWork(house, { subject, byHandle: true }),
    redeem(token) {
      requireHandOver(token);
      return createWork(house, { subject: { token, type: "accessToken" }, byHandle: true });
    },
  };
}
