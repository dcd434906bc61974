/** What an incident responder sees of one chain, by the real command line on a real server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, work } from "../approvals/approval-stage.ts";
import { answering, ephor, json } from "../cli/command-line.ts";
import { CRM_KEY, eventsOf, stage, until } from "./stage.ts";

test("ephor audit --txn shows a call on one line: human, chain, action, decision, approval and by whom, outcome and time; --arguments with what", async (t) => {
  const s = await stage(t, {
    resource: `    record: { what: bodies, redact: ["/**/ssn"] }`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [read] }
  - { agent: release-bot, resource: crm, actions: [write], approval: { by: owner } }`,
  });
  const { w } = s;
  const env = { EPHOR_URL: w.url, EPHOR_OPERATOR_KEY: w.operatorKey };
  const job = await work(s);
  const sent = { ssn: "078-05-1120", note: "said \u001b[2J so" };
  const waiting = await job.waits(sent);
  assert.equal((await decide(s, waiting.approval.id)).status, 200);
  assert.equal((await job.post(sent)).status, 200);
  await until(async () => (await eventsOf(w, "call.outcome")).length > 0, "outcome");

  const shown = await ephor(["audit", "--txn", job.txn], env);
  assert.equal(shown.code, 0, shown.talk);
  const lines = shown.out.trimEnd().split("\n");
  const calls = lines.filter((line) => line.includes("call."));
  assert.equal(calls.length, 2, shown.out);
  assert.match(
    calls[0] ?? "",
    /^\S+Z  call\.forward  granted  sub=agent\|release-bot  agent=release-bot  call=crm:write  target=POST \/contacts  approval=apr_\w{26}  by=operator:operator  outcome=done 200 \d+ ms  txn=\w{26}  jti=\w{26}  id=evt_\w{26}$/,
  );
  assert.ok(calls[0]?.includes(waiting.approval.id));
  assert.match(calls[1] ?? "", /refused \(approval_required\).*approval=apr_\w{26}  txn=/);
  assert.ok(lines.some((line) => line.includes("approval.decide  granted")));
  assert.ok(!shown.out.includes("[2J"), "arguments are shown to who asks for them");

  const withArguments = await ephor(["audit", "--txn", job.txn, "--arguments"], env);
  assert.equal(withArguments.code, 0, withArguments.talk);
  const at = withArguments.out
    .split("\n")
    .findIndex((line) => line.includes("granted") && line.includes("call.forward"));
  const [kept, answer] = withArguments.out.split("\n").slice(at + 1);
  assert.equal(kept, '    {"arguments":{"query":{},"body":{"ssn":"[redacted]","note":"said \\u001b[2J so"}}}');
  assert.equal(answer, '    {"answer":{"ok":true}}');
  assert.ok(!withArguments.out.includes(CRM_KEY));

  const [decision] = (await eventsOf(w, "call.forward")) as { id: string }[];
  const id = decision?.id ?? "";
  assert.equal((await ephor(["audit", "erase", id], env)).code, 2);
  const erased = await ephor(["audit", "erase", id, "--reason", "asked for"], env);
  assert.equal(erased.code, 0, erased.talk);
  assert.match(erased.out, new RegExp(`erased: ${id}\n`));
  assert.match((await ephor(["audit", "erase", id, "--reason", "again"], env)).out, /^it was erased before/);
  const after = await ephor(["audit", "--txn", job.txn, "--arguments"], env);
  assert.match(after.out, /arguments: erased by operator:operator at \S+Z: asked for\n {4}answer: erased by/);
  assert.equal((await ephor(["audit", "verify"], env)).code, 0);
  const machine = await ephor(["audit", "--txn", job.txn, "--arguments", "--json"], env);
  const { recordings } = JSON.parse(machine.out) as { recordings: { state: string }[] };
  assert.deepEqual(recordings.map(({ state }) => state).toSorted(), ["erased", "erased", "kept"]);
});

test("a call whose outcome nobody recorded says so; an outcome of an older page is a line of its own", async (t) => {
  const event = (id: string, type: string, body: object): object => ({
    stream: "s",
    seq: 1,
    id,
    at: "2026-11-23T00:00:00Z",
    type,
    decision: type === "call.forward" ? "granted" : "noted",
    resource: "crm",
    body,
  });
  const server = await answering(t, (response) =>
    json(response, 200, {
      events: [
        event("evt_3", "call.outcome", { of: "evt_0", outcome: "done", status: 200, ms: 3 }),
        event("evt_2", "call.forward", { action: "write\u001b", path: ["a", "b"] }),
        event("evt_5", "call.forward", { action: "read" }),
        event("evt_6", "call.outcome", { of: "evt_5", outcome: "done", unkept: "not sealed\u001b" }),
      ],
    }),
  );
  const { out } = await ephor(["audit"], server.env);
  assert.match(out, /call\.outcome {2}noted {2}resource=crm\n/);
  assert.match(out, /agent=a → b {2}call=crm:write\\u\{1b\} {2}outcome=none recorded/);
  assert.ok(!out.includes("not kept"));
  const withArguments = await ephor(["audit", "--arguments"], server.env);
  assert.match(withArguments.out, /call=crm:read .*id=evt_5\n {4}answer: not kept \(not sealed\\u\{1b\}\)\n/);
  assert.equal(withArguments.out.match(/not kept/g)?.length, 1, "of the others nothing would have been kept");
});
