import assert from "node:assert/strict";
import { test } from "node:test";
import { createStreams } from "../../src/authz/streams.ts";
import type { DecidedCall, ProxiedCall } from "../../src/proxy/decided.ts";
import type { ProxyDeps } from "../../src/proxy/deps.ts";
import type { McpMessage } from "../../src/proxy/mcp/message.ts";
import { answered, type Answering } from "../../src/proxy/mcp/answering.ts";
import type { ToolWatch } from "../../src/proxy/mcp/judge-tools.ts";
import type { Sessions } from "../../src/proxy/mcp/sessions.ts";
import { flying, takeOff, type Flight } from "../../src/proxy/relay.ts";
import type { UpstreamAnswer } from "../../src/system/egress-upstreams.ts";
import { createMetrics } from "../../src/system/metrics.ts";
import { Permit } from "../../src/core/permit.ts";
import { handClock } from "../support/hand-clock.ts";

const LIST = '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"look","inputSchema":{}}]}}';
const message: McpMessage = { kind: "request", id: 1, method: "tools/list", params: undefined };
const fault = (): never => {
  throw new TypeError("a mistake of ours");
};

/** A call that is in the air, over the real streams; what is told of it is kept. */
async function inTheAir() {
  const clock = handClock();
  const streams = createStreams({ now: clock.seconds, mayRelease: () => true });
  const noted: Record<string, unknown>[] = [];
  const withheld: Permit[] = [];
  const metrics = createMetrics({ version: "0" });
  const deps = {
    clock,
    trust: () => ({ resourceByName: () => undefined }),
    streams,
    metrics,
    recorder: { later: async ({ facts }: { facts: Record<string, unknown> }) => void noted.push(facts) },
    authorizer: { withheld: (permit: Permit) => void withheld.push(permit) },
  } as unknown as ProxyDeps;
  const lapsesAtMs = clock.monotonicMs() + 1_000;
  const permit = new Permit({ action: "call.forward", target: "shop", actor: "bot", eventId: "evt_1", lapsesAtMs });
  const decided = {
    permit,
    keys: ["txn:1"],
    epoch: 1,
    eventId: "evt_1",
    action: "tools/list",
  } as unknown as DecidedCall;
  const token = { claims: { exp: clock.seconds() + 59, sub: "agent|bot", jti: "j" }, state: { txn: "1" } };
  const call = { resource: { name: "shop" }, holder: { agent: { name: "bot" }, token }, requestId: "r" };
  const { flight } = await takeOff(deps, {
    call: call as unknown as ProxiedCall,
    decided,
    inject: undefined,
    whenGone: () => {},
  });
  assert.equal(streams.size, 1);
  return { flight, streams, noted, withheld, permit, metrics };
}

/** An answer of the upstream's, and whether its connection was given up. */
function answerOf(type: string, text: string): { answer: UpstreamAnswer; isGivenUp: () => boolean } {
  let isDestroyed = false;
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  }
  const body = Object.assign(chunks(), { destroy: () => void (isDestroyed = true) });
  const answer = { status: 200, rawHeaders: ["Content-Type", type], body };
  return { answer, isGivenUp: () => isDestroyed };
}

const answering = (
  flight: Flight,
  answer: UpstreamAnswer,
  o: { shown?: () => never; watch?: ToolWatch },
): Answering => ({
  owner: { resource: "shop", agent: "bot", sub: "agent|bot" },
  message,
  by: { request: message, mayUse: () => true, shown: o.shown ?? ((entries) => entries) },
  session: undefined,
  action: "tools/list",
  watch: o.watch,
  flight,
  answer,
});

const kinds = { json: ["application/json", LIST], stream: ["text/event-stream", `data: ${LIST}\n\n`] } as const;
for (const [kind, [type, text]] of Object.entries(kinds)) {
  for (const [what, broken] of Object.entries({
    "judging it fails": { shown: fault },
    "what it showed cannot be recorded": {
      watch: { shown: (entries) => entries, settled: async () => fault() } satisfies ToolWatch,
    },
  })) {
    test(`an answer (${kind}) ends its call at once where ${what}: no stream is kept, and its outcome is recorded once`, async () => {
      const { flight, streams, noted, withheld, metrics } = await inTheAir();
      const { answer, isGivenUp } = answerOf(type, text);
      const handedOn = flying(flight, async () => {
        await flight.leave(async () => answer);
        return await answered({ sessions: {} as Sessions }, answering(flight, answer, broken));
      });
      const read = async (): Promise<void> => {
        const { body } = await handedOn;
        assert.ok("chunks" in body);
        for await (const chunk of body.chunks) assert.fail(`it left: ${Buffer.from(chunk).toString()}`);
      };
      await assert.rejects(read(), TypeError);
      assert.equal(streams.size, 0);
      assert.ok(isGivenUp());
      assert.deepEqual([noted.length, noted[0]?.["outcome"], noted[0]?.["of"]], [1, "withheld", "evt_1"]);
      assert.equal(withheld.length, 0);
      assert.match(await metrics.render(), /ephor_proxied_calls_total\{resource="shop",outcome="withheld"\} 1/);
      // Whoever writes it ends it once more.
      flight.finish("aborted");
      assert.equal(noted.length, 1);
    });
  }
}

test("a call that fails before it left is recorded as not released, and has no outcome", async () => {
  const { flight, streams, noted, withheld, permit } = await inTheAir();
  await assert.rejects(flying(flight, fault), TypeError);
  assert.equal(streams.size, 0);
  assert.ok(flight.signal.aborted);
  assert.deepEqual([withheld, noted], [[permit], []]);
  flight.failed();
  assert.equal(withheld.length, 1);
});

test("an answer that is read whole keeps its stream until whoever writes it says that it ended", async () => {
  const { flight, streams, noted } = await inTheAir();
  const { answer } = answerOf("application/json", LIST);
  const { body } = await flying(flight, async () => {
    await flight.leave(async () => answer);
    return await answered({ sessions: {} as Sessions }, answering(flight, answer, {}));
  });
  assert.ok("text" in body);
  assert.deepEqual([streams.size, noted], [1, []]);
  assert.ok(body.text.length > 0 && body.mayFlow());
  body.ended("whole");
  assert.deepEqual([streams.size, noted.map(({ outcome }) => outcome)], [0, ["done"]]);
});
