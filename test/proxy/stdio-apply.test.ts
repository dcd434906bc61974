import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createStreams } from "../../src/authz/streams.ts";
import { createTrustIndex } from "../../src/core/trust/compiled.ts";
import type { LocalServerError } from "../../src/proxy/mcp/stdio-error.ts";
import { createLocalServers } from "../../src/proxy/mcp/stdio-servers.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { createMetrics } from "../../src/system/metrics.ts";
import { createPrograms } from "../../src/system/programs.ts";
import { handClock } from "../support/hand-clock.ts";
import { world, type World } from "../support/world.ts";

const [closed, open] = await Promise.all([
  world({ after }),
  world({ after }, { env: { EPHOR_STDIO_ALLOW: `/opt/mcp/files, ${process.execPath}` } }),
]);

/** What an apply of one resource is refused with: path, words and mend. */
async function refusal(w: World, resource: string): Promise<string> {
  const answer = await w.operator("POST", "/v1/apply", {
    source: "local.yaml",
    file: `resources:\n  local: ${resource}\n`,
  });
  if (answer.status === 200) return "applied";
  assert.equal(answer.status, 422, answer.text);
  return (answer.body["errors"] as { path: string; detail: string; mend: string }[])
    .map(({ path, detail, mend }) => `${path.replace("resources.local.", "")} ${detail}; ${mend}`)
    .join("\n");
}

test("no server starts a program that its own settings do not name, whoever applies the trust file", async () => {
  assert.match(
    await refusal(closed, "{ mcp: { command: [/opt/mcp/files] } }"),
    /^mcp\.command\[0\] .*settings do not allow; .*stdio\.allow/,
  );
  assert.equal(await refusal(open, "{ mcp: { command: [/opt/mcp/files] } }"), "applied");
  assert.equal(await refusal(open, "{ mcp: { command: [/opt/mcp/../mcp/files, a] } }"), "applied");
  assert.match(
    await refusal(open, "{ mcp: { command: [/opt/mcp/files2] } }"),
    /is no program .*; add \/opt\/mcp\/files2 to/,
  );
  assert.match(await refusal(open, "{ mcp: { command: [./files] } }"), /is a relative path/);
  assert.match(await refusal(open, "{ mcp: { command: [no-such-program] } }"), /is in none of .*\/usr\/bin/);
});

test("a program without a path is looked for in the path that the server gets, and what is found must be allowed", async () => {
  assert.equal(await refusal(open, "{ mcp: { command: [node, /srv/server.js] } }"), "applied");
  assert.match(await refusal(open, "{ mcp: { command: [sh, -c, id] } }"), /add \/(?:usr\/)?bin\/sh to/);
});

test("a local server gets a variable, an HTTP server a header, and neither the other's", async () => {
  const local = (more: string): string => `{ mcp: { command: [/opt/mcp/files] }, ${more} }`;
  const http = (more: string): string => `{ mcp: "https://mcp.example/mcp", ${more} }`;
  assert.equal(await refusal(open, local('inject: { env: API_KEY, value: "{secret:a}" }')), "applied");
  assert.equal(await refusal(open, http('inject: { header: Authorization, value: "Bearer {secret:a}" }')), "applied");
  assert.match(
    await refusal(open, local('inject: { header: Authorization, value: "{secret:a}" }')),
    /inject\.header .*; write inject: \{env/,
  );
  assert.match(
    await refusal(open, http('inject: { env: API_KEY, value: "{secret:a}" }')),
    /inject\.env .*; write inject: \{header/,
  );
  assert.match(await refusal(open, local('inject: { value: "{secret:a}" }')), /inject\.env is missing/);
  assert.match(await refusal(open, local("internal: true")), /internal means nothing/);
  assert.match(await refusal(open, local("forward: [X-Tenant]")), /forward means nothing/);
});

for (const name of [
  "PATH",
  "LD_PRELOAD",
  "NODE_OPTIONS",
  "PYTHONPATH",
  "BASH_ENV",
  "HTTPS_PROXY",
  "home",
  "EPHOR_DATA",
  "GIT_SSH_COMMAND",
])
  test(`the variable ${name} steers programs and is not injected`, async () => {
    const resource = `{ mcp: { command: [/opt/mcp/files] }, inject: { env: ${name}, value: "{secret:a}" } }`;
    assert.match(await refusal(open, resource), /inject\.env must not be a variable that steers/);
  });

test("arguments hold no secret (standards 17.6)", async () => {
  const resource = '{ mcp: { command: [/opt/mcp/files, "--key={secret:a}"] } }';
  assert.match(await refusal(open, resource), /mcp\.command\[1\] must hold no secret.*inject: \{env/);
});

test("what was applied while it was allowed is not started by a server that does not allow it", async () => {
  const clock = createDatabaseClock(handClock());
  const servers = createLocalServers({
    clock,
    streams: createStreams({ now: () => clock.now(), mayRelease: () => true }),
    programs: createPrograms([]),
    log: createLog({ level: "silent" }),
    metrics: createMetrics({ version: "0" }),
    trust: () => createTrustIndex({ issuerUrl: "https://sts.example" }),
  });
  const sent = servers.send({
    local: { command: [process.execPath], inject: undefined, forward: new Set(), print: "p" },
    owner: { resource: "r", agent: "a", sub: "s" },
    message: { kind: "request", id: 1, method: "initialize", params: {} },
    era: "legacy",
    session: undefined,
    events: false,
    injected: undefined,
    hides: () => false,
    keys: [],
    epoch: 0,
    signal: new AbortController().signal,
  });
  await assert.rejects(sent, (error: LocalServerError) => {
    assert.deepEqual([error.problem, error.rpc?.status], ["not_allowed", 503]);
    return true;
  });
  await servers.close();
});
