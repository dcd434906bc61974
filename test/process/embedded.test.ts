/** `npm start` with no configuration but a folder, killed without a word while it works, and started again. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { Cleanup } from "../support/database.ts";
import { eventually } from "../support/event-receiver.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import { cleanEnvironment, run, type Replica } from "../support/replicas.ts";
import { claimsOf } from "../attacks/chain-world.ts";
import { freePort, JWT_TYPE, TOKEN_EXCHANGE } from "../support/world.ts";

const data = await mkdtemp(join(tmpdir(), "ephor-embedded-"));
after(() => rm(data, { recursive: true, force: true, maxRetries: 5 }));
const cleanup: Cleanup = { after };
const workloads = await startIssuer(cleanup);
const url = `http://127.0.0.1:${await freePort()}`;

async function start(): Promise<Omit<Replica, "url">> {
  const server = run(["serve"], { ...cleanEnvironment(), EPHOR_DATA: data, EPHOR_LISTEN: url.slice("http://".length) });
  await Promise.race([
    new Promise<void>((resolve) =>
      server.child.stderr?.on("data", () => server.said().includes("listens on") && resolve()),
    ),
    server.ended.then((code) => assert.fail(`ended with ${code}: ${server.said()}`)),
  ]);
  return server;
}

const operator = async (method: string, path: string, body?: unknown): Promise<Record<string, unknown>> => {
  const key = (await readFile(join(data, "operator-key"), "utf8")).trim();
  const response = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  assert.equal(response.status, 200, path);
  return (await response.json()) as Record<string, unknown>;
};
const mint = async (): Promise<string | undefined> => {
  const token = workloads.mint({ sub: "job-1", aud: url });
  const body = new URLSearchParams({
    grant_type: TOKEN_EXCHANGE,
    subject_token: token,
    subject_token_type: JWT_TYPE,
    audience: "billing",
    scope: "billing:read",
  });
  const response = await fetch(`${url}/token`, { method: "POST", body });
  return response.status === 200 ? ((await response.json()) as { access_token: string }).access_token : undefined;
};

test("INV-11, A-AUD-01 killed without a word, with its database, and started again: every token that was received is on record", async () => {
  let server = await start();
  await operator("POST", "/v1/apply", {
    source: "trust.yaml",
    file: `issuers:
  jobs: { url: "${workloads.url}", audience: "${url}", internal: true }
agents:
  job: { owner: dana@acme.example, trust: [{ issuer: jobs, claims: { sub: job-1 } }] }
resources:
  billing: { resource: https://billing.acme.example, actions: [read] }
grants:
  - { agent: job, resource: billing, actions: [read] }
`,
  });
  const received: string[] = [];
  for (let round = 0; round < 2; round++) {
    let isOver = false;
    const crowd = Array.from({ length: 6 }, async () => {
      while (!isOver) {
        const token = await mint().catch(() => undefined);
        if (token !== undefined) received.push(token);
      }
    });
    const goal = received.length + 40;
    while (received.length < goal) await pause(5);
    server.child.kill("SIGKILL");
    isOver = true;
    await Promise.all(crowd);
    await server.ended;
    server = await start();
  }
  const recorded = new Set<unknown>();
  for (let last: unknown; ;) {
    const page = await operator(
      "GET",
      `/v1/audit?limit=500&type=token.issue${last === undefined ? "" : `&after=${String(last)}`}`,
    );
    for (const event of page["events"] as Record<string, unknown>[])
      if (event["decision"] === "granted") recorded.add(event["jti"]);
    last = page["next"];
    if (last === undefined) break;
  }
  const missing = received.map((token) => claimsOf(token).jti).filter((jti) => !recorded.has(jti));
  assert.deepEqual(missing, []);
  assert.ok(received.length <= recorded.size);
  const verdict = await operator("GET", "/v1/audit/verify");
  assert.equal(verdict["ok"], true, JSON.stringify(verdict));
  await eventually("it mints", mint);
  server.child.kill("SIGTERM");
  assert.equal(await server.ended, 0, server.said());
});
