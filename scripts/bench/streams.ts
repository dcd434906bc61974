/** Event streams that last: what they cost a server in memory while nothing but they happen. */
import { Agent, request } from "node:http";
import { residentMb } from "./crowd.ts";
import type { Round } from "./sides.ts";

/** What was seen while all of them flowed. */
export interface StreamsSeen {
  readonly streams: number;
  readonly beforeMb: number;
  readonly peakMb: number;
  readonly events: number;
  readonly whole: number;
}

const SECONDS = 12;
const LOOK_MS = 250;

/** Opens that many calls at once, each answered by a stream of {@link SECONDS}. */
export async function holdStreams(pid: number, round: Round, streams: number): Promise<StreamsSeen> {
  const beforeMb = residentMb(pid) ?? 0;
  let peakMb = beforeMb;
  const look = setInterval(() => {
    peakMb = Math.max(peakMb, residentMb(pid) ?? 0);
  }, LOOK_MS);
  const agent = new Agent({ keepAlive: false, maxSockets: streams });
  const seen = { events: 0, whole: 0 };
  await Promise.all(Array.from({ length: streams }, (_, id) => hold(agent, round, { id, seen })));
  clearInterval(look);
  agent.destroy();
  return { streams, beforeMb, peakMb, ...seen };
}

function hold(
  agent: Agent,
  { url, headers }: Round,
  { id, seen }: { id: number; seen: { events: number; whole: number } },
): Promise<void> {
  const params = { name: "echo", arguments: { seconds: SECONDS } };
  const body = JSON.stringify({ jsonrpc: "2.0", id, method: "tools/call", params });
  return new Promise((done, fail) => {
    const req = request(url, {
      method: "POST",
      agent,
      headers: { ...headers, "content-length": Buffer.byteLength(body) },
    });
    req.once("error", fail);
    req.once("response", (res) => {
      if (res.statusCode !== 200) fail(new Error(`a stream was answered ${res.statusCode}`));
      let last = "";
      res.setEncoding("utf8");
      res.on("data", (text: string) => {
        seen.events += text.split("\n\n").length - 1;
        last = text;
      });
      res.once("error", fail);
      res.once("end", () => {
        if (last.includes('"result"')) seen.whole += 1;
        done();
      });
    });
    req.end(body);
  });
}
