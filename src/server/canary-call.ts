import { CANARY_PATH, CANARY_PROXIED } from "../core/trust/canary.ts";
import type { Rooms } from "../http/rooms.ts";
import type { RelayedBody } from "../proxy/exchange.ts";
import { CanaryNotRunError, type CanaryCall } from "../revocation/canary.ts";
import type { Presented } from "../sts/agent-identity.ts";

/**
 * The canary's call, handed on and followed as the edge does it.
 *
 * @throws what the proxy throws; {CanaryNotRunError} for an answer that does not flow
 */
export async function canaryCall(proxy: Pick<Rooms["proxy"], "http">, presented: Presented): Promise<CanaryCall> {
  const whenOver: (() => void)[] = [];
  const over = (): void => whenOver.splice(0).forEach((call) => call());
  let leave = (): void => {};
  try {
    const answer = await proxy.http({
      presented,
      resource: CANARY_PROXIED,
      method: "GET",
      path: CANARY_PATH,
      query: undefined,
      headers: [],
      read: () => Promise.resolve(new Uint8Array()),
      flow: () => undefined,
      length: undefined,
      whenOver: (call) => whenOver.push(call),
      whenGone: (call) => (leave = call),
    });
    if (answer === undefined || !("chunks" in answer.body))
      throw new CanaryNotRunError("proxy: the canary's call is not answered as it should be");
    return flowing(answer.body, { over, close: () => leave() });
  } catch (error) {
    over();
    throw error;
  }
}

/** Reads it to its end. */
function flowing(body: RelayedBody, { over, close }: { over: () => void; close: () => void }): CanaryCall {
  let begin = (_hasBegun: boolean): void => {};
  const began = new Promise<boolean>((resolve) => (begin = resolve));
  const read = async (): Promise<number> => {
    try {
      for await (const chunk of body.chunks) begin(chunk.byteLength > 0 && body.mayFlow());
      body.ended("whole");
    } catch {
      body.ended("client_gone");
    }
    const endedMs = performance.now();
    begin(false);
    over();
    return endedMs;
  };
  return { began, ended: read(), mayFlow: body.mayFlow, close };
}
