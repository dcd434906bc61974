/** A-OPS-05, the half of the logs: the real program, whose words nobody takes. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { PROGRAM } from "../support/program.ts";
import { replicas, type Replica } from "../support/replicas.ts";
import { freePort } from "../support/world.ts";

const w = await replicas({ after }, { count: 1 });
const [first] = w.all as [Replica];
const folder = mkdtempSync(join(tmpdir(), "ephor-logs-"));
after(() => rmSync(folder, { recursive: true, force: true }));
// Its secret is not there: each vend fails, and leaves a line in the log.
await w.apply((usual) =>
  usual.replace(
    "grants:",
    "  lost: { credential: { static: { secret: nothing } }, disclose: true }\ngrants:\n  - { agent: release-bot, resource: lost, actions: [vend], residual: unlimited }",
  ),
);

/** Starts one more server, whose standard output and error go there. */
async function serving(fd: number): Promise<{ replica: Replica; stop(): Promise<number | string> }> {
  const port = await freePort();
  const child = spawn(process.execPath, [PROGRAM, "serve"], {
    env: { ...w.env, EPHOR_LISTEN: `127.0.0.1:${port}` },
    stdio: ["ignore", fd, fd],
  });
  const ended = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | string);
  after(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const url = `http://127.0.0.1:${port}`;
  const deadline = performance.now() + 60_000;
  const isReady = (): Promise<boolean> =>
    fetch(`${url}/readyz`).then(
      ({ status }) => status === 200,
      () => false,
    );
  while (!(await isReady())) {
    assert.equal(child.exitCode, null, "it ended");
    assert.ok(performance.now() < deadline, "it does not come to be ready");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    replica: { url, child, said: () => "", ended },
    async stop() {
      child.kill("SIGTERM");
      return await Promise.race([
        ended,
        new Promise<string>((r) => setTimeout(() => r("still there"), 20_000).unref()),
      ]);
    },
  };
}

async function droppedBy({ url }: Replica): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^ephor_log_lines_dropped_total (\d+)$/m.exec(text)?.[1] ?? -1);
}

/** Makes lines, one for each vend that fails, until some were dropped. */
async function talkative(replica: Replica): Promise<void> {
  const audience = { resource: `${w.issuer}/credentials/lost`, scope: "lost:vend", ttl: "59" };
  const deadline = performance.now() + 60_000;
  while ((await droppedBy(replica)) < 1) {
    assert.ok(performance.now() < deadline, "no line was dropped");
    const token = await w.minted(replica, "release-bot", audience);
    const vends = Array.from({ length: 64 }, () =>
      fetch(`${replica.url}/credentials/lost`, { method: "POST", headers: { authorization: `Bearer ${token}` } }),
    );
    for (const answer of await Promise.all(vends)) assert.ok([403, 503].includes(answer.status), String(answer.status));
  }
}

/** What nobody reads any more; `keep` are ends that stay open meanwhile. */
const places: Readonly<Record<string, () => { fd: number; begun?: () => void }>> = {
  "a full disk": () => ({ fd: openSync("/dev/full", "w") }),
  "a pipe that was closed": () => {
    const { into, from } = fifo("closed");
    return { fd: into, begun: () => closeSync(from) };
  },
  "a pipe that nobody reads": () => ({ fd: fifo("full").into }),
};

function fifo(name: string): { into: number; from: number } {
  const path = join(folder, name);
  execFileSync("mkfifo", [path]);
  const from = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { into: openSync(path, "w"), from };
}

for (const [place, open] of Object.entries(places)) {
  test(`A-OPS-05 with its words going to ${place} the server starts, mints, kills, counts what it lost, and ends when it is asked to`, async () => {
    const { fd, begun } = open();
    const { replica, stop } = await serving(fd);
    begun?.();
    await talkative(replica);
    await w.minted(replica, "release-bot");
    const killed = await w.operator(replica, "POST", "/v1/kill", { agent: "lonely-bot", reason: "test" });
    assert.equal(killed.status, 200, killed.text);
    const lost = await droppedBy(replica);
    assert.ok(lost >= 1);
    assert.equal(replica.child.exitCode, null);
    assert.equal(await stop(), 0);
    closeSync(fd);
    await w.minted(first, "release-bot");
  });
}
