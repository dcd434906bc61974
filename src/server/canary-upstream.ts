import { PassThrough } from "node:stream";
import { CANARY, CANARY_PROXIED } from "../core/trust/canary.ts";
import type { UpstreamAnswer, UpstreamOrder, Upstreams } from "../system/egress-upstreams.ts";

/** Sockets are named after the resource that was decided on and the agent that proved itself; nobody else can have these names. */
const POOL = `${CANARY_PROXIED} ${CANARY}`;

/**
 * The way out, but for the canary's calls: what answers them is here, a stream that begins and goes on until it is cut. So a turn
 * takes the very way of everybody's calls up to the socket, and nothing is sent to anybody.
 */
export function withCanaryUpstream(upstreams: Upstreams): Upstreams {
  return {
    ...upstreams,
    send: (order) => (order.pool === POOL ? Promise.resolve(flowing(order)) : upstreams.send(order)),
  };
}

function flowing({ signal }: UpstreamOrder): UpstreamAnswer {
  const body = new PassThrough();
  // An error reaches whoever reads; without a reader it must not end the process.
  body.on("error", () => {});
  body.write("begun\n");
  const cut = (): void => void body.destroy(new Error("cut"));
  signal.addEventListener("abort", cut);
  body.once("close", () => signal.removeEventListener("abort", cut));
  if (signal.aborted) cut();
  return { status: 200, rawHeaders: ["Content-Type", "text/plain"], body };
}
