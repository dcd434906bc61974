/** What was decided before a kill and waits in our memory, because its caller does not read, is not told after it. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, test, type TestContext } from "node:test";
import { chainWorld } from "../attacks/chain-world.ts";
import { granted } from "../attacks/refusals.ts";
import { holdLock } from "../support/held-lock.ts";

const SECRET = "crm-key-0123456789";

const w = await chainWorld({ after });
await w.apply(
  `
resources:
  crm: { credential: { static: { secret: crm-key, disclose: true } } }
grants:
  - { agent: release-bot, resource: crm, actions: [vend], residual: unlimited }
  - { agent: release-bot, resource: ephor, actions: [audit] }
`,
  "vault.yaml",
);
assert.equal((await w.operator("PUT", "/v1/secrets/crm-key", { value: SECRET })).status, 200);

interface Behind {
  readonly token: string;
  /** Lets the first answer go. @returns all that came, once both were answered or the connection ended */
  letGo(): Promise<string>;
}

/** A request on a connection whose first request is held up. @param event what it is recorded as, once it is decided */
async function behindAnother(
  t: TestContext,
  request: { line: string; form: Record<string, string>; event: string },
): Promise<Behind> {
  const token = granted(await w.self("release-bot", request.form));
  const lock = await holdLock(w.databaseUrl, "lock table ephor.approvals in access exclusive mode");
  t.after(() => lock.release());
  const { hostname, port } = new URL(w.url);
  const socket = connect(Number(port), hostname);
  t.after(() => socket.destroy());
  let text = "";
  let isOver = false;
  socket.on("error", () => {});
  socket.on("close", () => (isOver = true));
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const before = (await w.events({ type: request.event })).length;
  socket.write(
    `GET /v1/approvals HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${w.operatorKey}\r\n\r\n` +
      `${request.line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Length: 0\r\n\r\n`,
  );
  const until = async (isSo: () => boolean | Promise<boolean>, what: string): Promise<void> => {
    const late = performance.now() + 5_000;
    while (!(await isSo())) assert.ok(performance.now() < late, `not in time: ${what}`);
  };
  await until(async () => (await w.events({ type: request.event })).length > before, "decided");
  // What follows the decision takes no longer than what somebody else asks afterwards.
  for (let turn = 0; turn < 5; turn++) assert.equal((await w.operator("GET", "/v1/audit?limit=1")).status, 200);
  assert.equal(text, "");
  return {
    token,
    async letGo() {
      await lock.release();
      await until(async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return isOver || text.split("HTTP/1.1 ").length > 2;
      }, "both are answered");
      // Whatever else would come.
      for (let turn = 0; turn < 5; turn++) assert.equal((await w.operator("GET", "/v1/audit?limit=1")).status, 200);
      return text;
    },
  };
}

const txnOf = (token: string): string =>
  (JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8")) as { txn: string }).txn;

const vend = {
  line: "POST /credentials/crm",
  form: { audience: "crm", scope: "crm:vend" },
  event: "credential.release",
};

test("CONTRACT §2 rule 7 a vended credential that would wait behind another answer of its connection is withheld, and its lease is abandoned", async (t) => {
  const { token, letGo } = await behindAnother(t, vend);
  assert.equal((await w.kill({ txn: txnOf(token) })).status, 200);
  const text = await letGo();
  assert.ok(!text.includes(SECRET), "the credential came after the kill's answer");
  assert.match(text, /HTTP\/1\.1 503 /);
  assert.equal((await w.events({ type: "release.withheld" })).length, 1);
});

const read = { form: { resource: `${w.server.issuer}/v1`, scope: "ephor:audit" }, event: "admin.request" };

for (const path of ["/v1/audit", "/v1/audit/export"]) {
  test(`CONTRACT §2 rule 7 what an agent reads at ${path} and has not been told is not told after a kill of it`, async (t) => {
    const { token, letGo } = await behindAnother(t, { ...read, line: `GET ${path}` });
    assert.equal((await w.kill({ txn: txnOf(token) })).status, 200);
    const text = await letGo();
    assert.ok(text.startsWith("HTTP/1.1 200"), text);
    assert.ok(!text.includes("admin.request"), "the ledger was told after the kill's answer");
  });

  test(`what it reads at ${path} without a kill is told`, async (t) => {
    const { letGo } = await behindAnother(t, { ...read, line: `GET ${path}` });
    assert.match(await letGo(), /admin\.request/);
  });
}
