import assert from "node:assert/strict";
import crypto, { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { after, beforeEach, test, type TestContext } from "node:test";
import { CALL_COLUMN } from "../../src/approvals/sealed-call.ts";
import { createSweeper } from "../../src/db/sweep.ts";
import { RECORDING_COLUMN } from "../../src/proxy/recording.ts";
import { createLog } from "../../src/system/log.ts";
import { createEnvelope, localKeyEncryptionKey } from "../../src/vault/envelope.ts";
import { rewrapAll } from "../../src/vault/rewrap.ts";
import { SecretBytes } from "../../src/vault/secret-bytes.ts";
import { holdLock } from "../support/held-lock.ts";
import { CRM_KEY, eventsOf, plain, stage, startCrm, until, type Raw } from "./stage.ts";

const other = await startCrm({ after });
const s = await stage(
  { after },
  {
    resource: `    record: { what: bodies, redact: ["/arguments/body/password", "/**/ssn"], keep: 1h }
  quiet:
    http: ${other.url}
    actions: { write: ["POST /contacts"] }
  notes:
    http: ${other.url}
    actions: { write: ["POST /contacts"], read: ["GET /contacts"] }
    record: bodies
  tickets:
    mcp: ${other.url}/mcp
    record: { what: bodies, redact: ["/**/ssn"] }`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [read, write], when: '!("forbidden" in args)' }
  - { agent: release-bot, resource: quiet, actions: [write] }
  - { agent: release-bot, resource: notes, actions: [read, write] }
  - { agent: release-bot, resource: tickets, actions: [get_ticket] }
  - { agent: release-bot, resource: ephor, actions: [audit] }`,
  },
);
const { w, crm, token, send } = s;

type Event = Record<string, unknown> & { id: string; body: Record<string, unknown> };
interface KeptFacts {
  commitment: string;
  redacted?: number;
  cut?: boolean;
  until: number;
}

const JSON_TYPE = { "content-type": "application/json" };

async function post(body: unknown, o: { resource?: string; query?: string; token?: string } = {}): Promise<Raw> {
  const { resource = "crm", query = "" } = o;
  const access = o.token ?? (await token(`${resource}:write`, { resource: `http/${resource}` }));
  return await send("POST", `/http/${resource}/contacts${query}`, {
    token: access,
    headers: JSON_TYPE,
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

const last = async (type: string, decision?: string): Promise<Event> => {
  const found = (await eventsOf(w, type)).find((one) => decision === undefined || one["decision"] === decision);
  return (found ?? assert.fail(type)) as Event;
};
const keptOf = ({ body }: Event): KeptFacts => (body["kept"] ?? assert.fail("nothing kept")) as KeptFacts;

/** The outcome of a decision. */
async function outcomeOf(decision: Event): Promise<Event> {
  let found: Event | undefined;
  await until(async () => {
    found = (await eventsOf(w, "call.outcome")).find(
      (event) => (event["body"] as Event["body"])["of"] === decision.id,
    ) as Event | undefined;
    return found !== undefined;
  }, "outcome");
  return found as Event;
}

const recording = (event: Event): ReturnType<typeof w.operator> => w.operator("GET", `/v1/audit/${event.id}/recording`);

async function textOf(event: Event): Promise<unknown> {
  const answer = await recording(event);
  assert.equal(answer.status, 200, answer.text);
  return JSON.parse(answer.body["text"] as string);
}

async function dump(): Promise<string> {
  const tables = await w.admin<{ name: string }>(
    "select table_name as name from information_schema.tables where table_schema = 'ephor'",
  );
  const rows = await Promise.all(
    tables.map(({ name }) => w.admin<{ row: string }>(`select t::text as row from ephor."${name}" t`)),
  );
  return rows
    .flat()
    .map(({ row }) => row)
    .join("\n");
}

const isVerified = async (): Promise<unknown> => (await w.operator("GET", "/v1/audit/verify")).body["ok"];

beforeEach(() => {
  for (const one of [crm, other]) {
    one.seen.length = 0;
    one.answer = plain;
  }
});

test("what a resource keeps of a call lies sealed; the ledger commits to it, and whoever may read the ledger reads it", async () => {
  crm.answer = (_req, res) => {
    res.writeHead(201, { "content-type": "application/json" });
    res.end(JSON.stringify({ id: 7, echo: CRM_KEY, ssn: "078-05-1120", told: "a-word-in-the-answer" }));
  };
  const access = await token("crm:write");
  const sent = {
    name: "a-word-in-the-arguments",
    password: "hunter2-hunter2",
    nested: JSON.stringify({ ssn: "078-05-1121", kept: 1 }),
    token: access,
  };
  const answer = await post(sent, { query: "?page=2", token: access });
  assert.equal(answer.status, 201);
  // What is redacted in the record is not in the call (INV-18).
  assert.deepEqual(JSON.parse(crm.seen[0]?.body ?? ""), sent);
  const decision = await last("call.forward", "granted");
  const outcome = await outcomeOf(decision);
  assert.deepEqual(await textOf(decision), {
    arguments: {
      query: { page: "2" },
      body: {
        name: "a-word-in-the-arguments",
        password: "[redacted]",
        nested: '{"ssn":"[redacted]","kept":1}',
        token: "*".repeat(access.length),
      },
    },
  });
  assert.deepEqual(await textOf(outcome), {
    answer: { id: 7, echo: "*".repeat(CRM_KEY.length), ssn: "[redacted]", told: "a-word-in-the-answer" },
  });
  assert.equal(keptOf(decision).redacted, 2);
  assert.equal(decision.body["target"], "/contacts");
  const { text, salt, commitment } = (await recording(decision)).body as Record<string, string>;
  const hmac = createHmac("sha256", Buffer.from(salt ?? "", "base64url")).update(text ?? "");
  assert.equal(hmac.digest("base64url"), commitment);
  assert.equal(keptOf(decision).commitment, commitment);
  const everything = await dump();
  for (const word of ["a-word-in-the-arguments", "a-word-in-the-answer", "hunter2", "078-05", salt, CRM_KEY, access])
    assert.ok(!everything.includes(word ?? ""), word);
  assert.ok(!w.lines.join("\n").includes("a-word-in"));
});

test("reading is recorded before it is answered, also where there is nothing; it takes ephor:audit", async () => {
  await post({ a: 1 });
  const decision = await last("call.forward", "granted");
  assert.equal((await recording(decision)).status, 200);
  const read = await last("audit.read");
  assert.deepEqual([read["agent"], read.body["of"]], ["operator:operator", decision.id]);
  assert.equal((await w.operator("GET", "/v1/audit/evt_01J00000000000000000000000/recording")).status, 404);
  assert.equal((await last("audit.read")).body["of"], "evt_01J00000000000000000000000");
  const auth = async (scope: string, agent = "release-bot"): Promise<Record<string, string>> => {
    const answer = await w.self(agent, { scope, resource: `${w.server.issuer}/v1` });
    assert.equal(answer.status, 200, answer.text);
    return { authorization: `Bearer ${String(answer.body["access_token"])}` };
  };
  const path = `/v1/audit/${decision.id}/recording`;
  assert.equal((await w.request("GET", path, { headers: await auth("ephor:audit") })).status, 200);
  assert.equal((await w.request("GET", path, { headers: await auth("ephor:read", "watch-bot") })).status, 403);
  assert.equal((await w.request("GET", path)).status, 401);
});

test("erasing takes what was kept and its key, says who and why, and the ledger verifies as before", async () => {
  await post({ secret: "to-be-erased" });
  const decision = await last("call.forward", "granted");
  const outcome = await outcomeOf(decision);
  await post({ secret: "to-stay" });
  const staying = await last("call.forward", "granted");
  assert.equal(await isVerified(), true);
  const agent = await w.self("release-bot", { scope: "ephor:audit", resource: `${w.server.issuer}/v1` });
  const path = `/v1/audit/recordings/${decision.id}?reason=asked%20by%20the%20person`;
  const headers = { authorization: `Bearer ${String(agent.body["access_token"])}` };
  assert.ok([401, 403].includes((await w.request("DELETE", path, { headers })).status));
  assert.equal((await w.operator("DELETE", `/v1/audit/recordings/${decision.id}`)).status, 400);
  assert.equal((await recording(decision)).body["state"], "kept");

  const erased = await w.operator("DELETE", path);
  assert.deepEqual([erased.status, erased.body], [200, { erased: [decision.id, outcome.id].toSorted() }]);
  for (const event of [decision, outcome]) {
    const { body, status } = await recording(event);
    assert.deepEqual(
      [status, body["state"], body["erased_by"], body["reason"], body["text"], body["salt"]],
      [200, "erased", "operator:operator", "asked by the person", undefined, undefined],
    );
  }
  const rows = await w.admin<{ sealed: unknown }>('select sealed from ephor.recordings where "of" = $1', [decision.id]);
  assert.deepEqual(rows, [{ sealed: null }, { sealed: null }]);
  const event = await last("recording.erase");
  assert.deepEqual(
    [event["agent"], event["decision"], event.body["of"], event.body["why"]],
    ["operator:operator", "granted", decision.id, "asked by the person"],
  );
  assert.equal(await isVerified(), true);
  assert.deepEqual(await textOf(staying), { arguments: { query: {}, body: { secret: "to-stay" } } });
  const before = (await eventsOf(w, "recording.erase")).length;
  assert.deepEqual((await w.operator("DELETE", path)).body, { erased: [] });
  assert.equal((await w.operator("DELETE", "/v1/audit/recordings/evt_x?reason=r")).status, 404);
  assert.equal((await eventsOf(w, "recording.erase")).length, before);
});

test("an answer that is written down while its call is erased is erased with it, whoever comes first", async (t) => {
  const answerOf = (of: Event): [Record<string, unknown>] => [
    {
      event: `evt_late_${of.id}`,
      of: of.id,
      part: "answer",
      txn: "t",
      resource: "crm",
      sealed: {},
      kept_at: 1,
      until: 2,
    },
  ];
  const left = async (of: Event): Promise<number> =>
    (await w.admin(`select 1 from ephor.recordings where "of" = $1 and sealed is not null`, [of.id])).length;
  const made = async (): Promise<Event> => {
    await post({ a: 1 });
    const decision = await last("call.forward", "granted");
    await outcomeOf(decision);
    return decision;
  };

  const first = await made();
  const writing = await holdLock(w.databaseUrl, "select ephor.keep($1::jsonb)", [JSON.stringify(answerOf(first))]);
  t.after(() => writing.release());
  const erasing = w.operator("DELETE", `/v1/audit/recordings/${first.id}?reason=asked`);
  await writing.waiting(1);
  await writing.commit();
  const { status, body } = await erasing;
  assert.deepEqual([status, (body["erased"] as string[]).length], [200, 3]);
  assert.equal(await left(first), 0);

  const second = await made();
  const eraser = await holdLock(
    w.databaseUrl,
    `update ephor.recordings set sealed = null, erased_at = 1, erased_by = 'x', erased_because = 'y' where "of" = $1`,
    [second.id],
  );
  t.after(() => eraser.release());
  const late = w.admin("select ephor.keep($1::jsonb)", [JSON.stringify(answerOf(second))]);
  await eraser.waiting(1);
  await eraser.commit();
  await late;
  assert.equal(await left(second), 0);
  assert.equal((await w.admin(`select 1 from ephor.recordings where "of" = $1`, [second.id])).length, 2);
});

test("a new key-encryption key takes recordings and waiting calls along (INV-23)", async () => {
  await post({ a: "sealed twice" });
  const event = await last("call.forward", "granted");
  // Its answer too: what is sealed meanwhile would be left over.
  await outcomeOf(event);
  // The server's own connections read counts as numbers.
  const db = {
    query: async (text: string, params: unknown[]) =>
      (await w.admin<Record<string, unknown>>(text, params)).map((row) =>
        "count" in row ? { ...row, count: Number(row["count"]) } : row,
      ),
  } as never;
  const kek = localKeyEncryptionKey("kek:other", new SecretBytes(new Uint8Array(32).fill(7)));
  const present = localKeyEncryptionKey(
    (await w.admin<{ kek: string }>("select kek from ephor.recordings where event = $1", [event.id]))[0]?.kek ?? "",
    new SecretBytes(new Uint8Array(Buffer.from(readFileSync(join(w.data, "kek"), "utf8").trim(), "base64url"))),
  );
  const columns = [RECORDING_COLUMN, CALL_COLUMN];
  const there = createEnvelope({ kek, previous: [present] });
  const moved = await rewrapAll({ db, envelope: there }, columns, 10_000);
  assert.ok(moved.rewrapped > 0);
  assert.deepEqual([moved.already, moved.remaining, moved.failed], [0, 0, []]);
  assert.equal((await recording(event)).status, 500);
  const back = await rewrapAll({ db, envelope: createEnvelope({ kek: present, previous: [kek] }) }, columns, 10_000);
  assert.equal(back.rewrapped, moved.rewrapped);
  assert.deepEqual(await textOf(event), { arguments: { query: {}, body: { a: "sealed twice" } } });
});

test("nobody tries arguments on the commitment: the same ones give another", async () => {
  await post({ pin: 1 });
  const first = keptOf(await last("call.forward", "granted")).commitment;
  await post({ pin: 1 });
  assert.notEqual(keptOf(await last("call.forward", "granted")).commitment, first);
});

test("A-SEC-01 a recording opens beside its own event only, and is what the ledger commits to", async () => {
  await post({ a: "mine" });
  const one = await last("call.forward", "granted");
  await post({ a: "yours" });
  const two = await last("call.forward", "granted");
  await w.admin(
    "update ephor.recordings r set sealed = (select sealed from ephor.recordings where event = $2) where event = $1",
    [one.id, two.id],
  );
  const answer = await recording(one);
  assert.equal(answer.status, 500);
  assert.ok(!answer.text.includes("yours"));
  assert.equal((await recording(two)).status, 200);
});

test("what cannot be kept is not forwarded: no recording, no call; a resource that keeps nothing asks for nothing more", async () => {
  const [crmToken, quietToken] = [await token("crm:write"), await token("quiet:write", { resource: "http/quiet" })];
  await w.admin("alter table ephor.recordings add constraint is_full check (false) not valid");
  try {
    const answer = await post({ a: 1 }, { token: crmToken });
    assert.equal(answer.status, 500, answer.text);
    assert.equal(crm.seen.length, 0);
    // And none of the functions that keep is called for it.
    assert.equal((await post({ a: 1 }, { resource: "quiet", token: quietToken })).status, 200);
    assert.equal(other.seen.length, 1);
  } finally {
    await w.admin("alter table ephor.recordings drop constraint is_full");
  }
  assert.equal((await post({ a: 1 }, { token: crmToken })).status, 200);
  const quiet = (await eventsOf(w, "call.forward")).find((event) => event["resource"] === "quiet") as Event;
  assert.equal(quiet.body["kept"], undefined);
  assert.equal((await recording(quiet)).status, 404);
});

/** From now on nothing can be sealed. @returns ends it */
function unsealable(t: TestContext): () => void {
  t.mock.method(crypto, "createCipheriv", () => {
    throw new Error("no cipher");
  });
  syncBuiltinESMExports();
  return () => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  };
}

test("INV-29 an answer that the database does not take costs its recording, not its call's outcome, nor what is told with it", async () => {
  const [crmToken, quietToken] = [await token("crm:write"), await token("quiet:write", { resource: "http/quiet" })];
  await w.admin("alter table ephor.recordings add constraint no_answers check (part <> 'answer') not valid");
  try {
    const answers = await Promise.all([
      post({ a: 1 }, { token: crmToken }),
      post({ a: 1 }, { resource: "quiet", token: quietToken }),
      post({ forbidden: "fruit" }, { token: crmToken }),
    ]);
    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 200, 403],
    );
    const granted = (await eventsOf(w, "call.forward")).filter(({ decision }) => decision === "granted");
    const outcomes = await Promise.all(
      ["crm", "quiet"].map((name) => outcomeOf(granted.find((event) => event["resource"] === name) as Event)),
    );
    assert.deepEqual(
      outcomes.map(({ body }) => [body["outcome"], body["unkept"], body["kept"]]),
      [
        ["done", "not stored", undefined],
        ["done", undefined, undefined],
      ],
    );
    const [unkept] = outcomes as [Event];
    assert.equal((await recording(unkept)).status, 404);
    assert.ok(w.lines.some((line) => line.includes("recording_not_stored") && line.includes(unkept.id)));
    const refused = await last("call.forward", "refused");
    assert.deepEqual([refused["reason"], refused.body["unkept"]], ["condition_false", undefined]);
  } finally {
    await w.admin("alter table ephor.recordings drop constraint no_answers");
  }
});

test("INV-29 an answer that cannot be sealed costs its recording, not its call's outcome; arguments that cannot be cost the call", async (t) => {
  const access = await token("crm:write");
  let end = (): void => {};
  t.after(() => end());
  crm.answer = (req, res, body) => {
    end = unsealable(t);
    plain(req, res, body);
  };
  assert.equal((await post({ a: 1 }, { token: access })).status, 200);
  const decision = await last("call.forward", "granted");
  const outcome = await outcomeOf(decision);
  assert.deepEqual(
    [outcome.body["outcome"], outcome.body["status"], outcome.body["unkept"], outcome.body["kept"]],
    ["done", 200, "not sealed", undefined],
  );
  assert.equal((await recording(outcome)).status, 404);
  assert.ok(w.lines.some((line) => line.includes("recording_not_sealed") && line.includes(outcome.id)));

  crm.seen.length = 0;
  assert.equal((await post({ a: 2 }, { token: access })).status, 500);
  assert.equal(crm.seen.length, 0);
  assert.equal((await last("call.forward", "granted")).id, decision.id);
  assert.equal((await post({ forbidden: "fruit" }, { token: access })).status, 403);
  const refused = await last("call.forward", "refused");
  assert.deepEqual([refused["reason"], refused.body["unkept"]], ["condition_false", "not sealed"]);
  end();
  crm.answer = plain;
  assert.deepEqual(await textOf(decision), { arguments: { query: {}, body: { a: 1 } } });
  assert.equal((await post({ a: 3 }, { token: access })).status, 200);
  assert.ok(keptOf(await outcomeOf(await last("call.forward", "granted"))).commitment);
  assert.equal(await isVerified(), true);
});

test("a body that is no JSON, and arguments beyond the bound, are refused where calls are kept", async () => {
  const access = await token("crm:write");
  const text = { token: access, headers: { "content-type": "text/plain" }, body: '{"a":1}' };
  assert.equal((await send("POST", "/http/crm/contacts", text)).status, 415);
  const refused = await last("call.forward");
  assert.deepEqual([refused["decision"], refused["reason"]], ["refused", "content_type"]);
  assert.equal((await post({ a: "x".repeat(128 * 1024) }, { token: access })).status, 413);
  assert.equal((await last("call.forward"))["reason"], "body_too_large");
  assert.equal(crm.seen.length, 0);
  assert.equal((await post({ a: "x".repeat(127 * 1024) }, { token: access })).status, 200);
  const quiet = await token("quiet:write", { resource: "http/quiet" });
  assert.equal((await send("POST", "/http/quiet/contacts", { ...text, token: quiet })).status, 200);
});

test("the arguments of a refused call are kept beside its refusal", async () => {
  const answer = await post({ forbidden: "fruit", ssn: 1 });
  assert.equal(answer.status, 403);
  const refused = await last("call.forward");
  assert.equal(refused["reason"], "condition_false");
  assert.deepEqual(await textOf(refused), {
    arguments: { query: {}, body: { forbidden: "fruit", ssn: "[redacted]" } },
  });
});

test("calls that are decided in one batch keep each its own", async () => {
  const [mine, theirs] = [await token("crm:write"), await token("quiet:write", { resource: "http/quiet" })];
  const calls = Array.from({ length: 24 }, (_, n) =>
    n % 3 === 0 ? post({ n }, { resource: "quiet", token: theirs }) : post({ n }, { token: mine }),
  );
  for (const { status } of await Promise.all(calls)) assert.equal(status, 200);
  const events = (await w.events({ type: "call.forward", resource: "crm", limit: "16" })) as Event[];
  const numbers = await Promise.all(
    events.map(async (event) => (await textOf(event)) as { arguments: { body: { n: number } } }),
  );
  assert.deepEqual(
    numbers.map(({ arguments: { body } }) => body.n).toSorted((a, b) => a - b),
    Array.from({ length: 24 }, (_, n) => n).filter((n) => n % 3 !== 0),
  );
});

test("an answer is cut at its bound and says so; what cannot be redacted is not kept", async () => {
  const long = "é".repeat(200 * 1024);
  const answer = (type: string, body: string) => {
    other.answer = crm.answer = (_req, res) => res.writeHead(200, { "content-type": type }).end(body);
  };
  answer("text/plain", long);
  const read = await token("notes:read", { resource: "http/notes" });
  assert.equal((await send("GET", "/http/notes/contacts", { token: read })).text, long);
  const cut = await outcomeOf(await last("call.forward", "granted"));
  assert.equal(keptOf(cut).cut, true);
  const { text } = (await recording(cut)).body as { text: string };
  assert.match(text, /^\{"answer":"é+$/);
  assert.ok(Buffer.byteLength(text) <= 64 * 1024);

  answer("text/csv", "ssn,078-05-1120");
  const crmRead = await token("crm:read");
  assert.equal((await send("GET", "/http/crm/contacts/1", { token: crmRead })).text, "ssn,078-05-1120");
  assert.deepEqual(await textOf(await outcomeOf(await last("call.forward", "granted"))), {
    answer: { unkept: "not to be redacted", type: "text/csv", bytes: 15 },
  });
  answer("application/json", JSON.stringify({ a: "x".repeat(300 * 1024), ssn: "078-05-1120" }));
  assert.equal((await send("GET", "/http/crm/contacts/1", { token: crmRead })).status, 200);
  const unkept = (await textOf(await outcomeOf(await last("call.forward", "granted")))) as { answer: object };
  assert.deepEqual(Object.keys(unkept.answer), ["unkept", "type", "bytes"]);
});

test("a tool's arguments and its answer are kept, as JSON and as events; lists are not", async () => {
  const access = (await w.self("release-bot", { scope: "tickets", resource: `${w.server.issuer}/mcp/tickets` })).body[
    "access_token"
  ] as string;
  const tools = [{ name: "get_ticket", inputSchema: { type: "object" } }];
  const result = { content: [{ type: "text", text: '{"ssn":"078-05-1120","title":"kept"}' }] };
  let streams = false;
  other.answer = (_req, res, body) => {
    const { id, method } = JSON.parse(body) as { id?: unknown; method: string };
    const message = JSON.stringify({ jsonrpc: "2.0", id, result: method === "tools/list" ? { tools } : result });
    res.writeHead(200, { "content-type": streams ? "text/event-stream" : "application/json" });
    res.end(streams ? `data: ${message}\n\n` : message);
  };
  const version = "2026-07-28";
  const meta = {
    "io.modelcontextprotocol/protocolVersion": version,
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  const ask = (method: string, params: { name?: string; arguments?: object }): Promise<Raw> =>
    send("POST", "/mcp/tickets", {
      token: access,
      headers: {
        ...JSON_TYPE,
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": version,
        "mcp-method": method,
        ...(params.name !== undefined && { "mcp-name": params.name }),
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: { ...params, _meta: meta } }),
    });
  assert.equal((await ask("tools/list", {})).status, 200);
  for (const isStream of [false, true]) {
    streams = isStream;
    assert.equal((await ask("tools/call", { name: "get_ticket", arguments: { id: 4711, ssn: 2 } })).status, 200);
    const decision = await last("call.forward", "granted");
    assert.deepEqual(await textOf(decision), { arguments: { id: 4711, ssn: "[redacted]" } });
    assert.deepEqual(await textOf(await outcomeOf(decision)), {
      answer: { result: { content: [{ type: "text", text: '{"ssn":"[redacted]","title":"kept"}' }] } },
    });
  }
  const lists = (await eventsOf(w, "call.forward")) as Event[];
  assert.ok(lists.some(({ body }) => body["action"] === "tools/list" && body["kept"] === undefined));
});

test("what is wrong in `record` is refused by apply, with its place and its mend", async () => {
  const put = (record: unknown): ReturnType<typeof w.operator> =>
    w.operator("PUT", "/v1/resources/tried", { http: other.url, actions: { read: ["GET /**"] }, record });
  for (const record of [
    "everything",
    { what: "arguments", redact: ["password"] },
    { what: "arguments", redact: ["/password"] },
    { what: "arguments", redact: ["/answer/x"] },
    { what: "bodies", redact: ["/**"] },
    { what: "bodies", keep: "0d" },
    { what: "bodies", redacted: [] },
    {},
  ])
    assert.equal((await put(record)).status, 422, JSON.stringify(record));
  assert.equal((await put({ what: "bodies", redact: ["/answer/*/x", "/**/y"], keep: "7d" })).status, 201);
  assert.equal(
    (
      await w.operator("PUT", "/v1/resources/never", {
        resource: "https://x.acme.example",
        actions: ["a"],
        record: "bodies",
      })
    ).status,
    422,
  );
});

test("a recording goes when its time is over: at once for readers, then from the table; the ledger verifies", async (t) => {
  await post({ a: "old" });
  const decision = await last("call.forward", "granted");
  assert.equal(keptOf(decision).until, w.now() + 3_600);
  w.clock.advance(3_599);
  assert.equal((await recording(decision)).status, 200);
  w.clock.advance(1);
  assert.equal((await recording(decision)).status, 404);
  const count = async (): Promise<number> =>
    (await w.admin<{ n: number }>("select count(*)::int as n from ephor.recordings where event = $1", [decision.id]))[0]
      ?.n ?? -1;
  assert.equal(await count(), 1);
  const db = { query: (text: string, params: unknown[]) => w.admin(text, params) } as never;
  const sweeper = createSweeper({ db, clock: { now: () => w.now() } as never, log: createLog({ level: "silent" }) });
  t.after(() => sweeper.close());
  assert.ok(((await sweeper.tick())["recordings"] ?? 0) > 0);
  assert.equal(await count(), 0);
  assert.equal(await isVerified(), true);
});

test("INV-29 what nests deeper than anybody could write again keeps no call from being recorded", async () => {
  const deep = (times: number): string => `${"[".repeat(times)}${"]".repeat(times)}`;
  for (const [resource, text] of [
    ["notes", `{"list":${deep(25_000)}}`],
    ["crm", `{"list":${deep(25_000)}}`],
  ] as const) {
    other.answer = crm.answer = (_req, res) => res.writeHead(200, { "content-type": "application/json" }).end(text);
    const answer = await post({ a: 1 }, { resource });
    assert.deepEqual([answer.status, answer.text, answer.whole], [200, text, true], resource);
    const outcome = await outcomeOf(await last("call.forward", "granted"));
    assert.equal(outcome.body["outcome"], "done");
    const { answer: kept } = (await textOf(outcome)) as { answer: unknown };
    // Where something is to be taken out of it, what cannot be looked through is not kept.
    const unkept = { unkept: "not to be redacted", type: "application/json", bytes: text.length };
    assert.deepEqual(kept, resource === "notes" ? text : unkept);
  }
  const hidden = JSON.stringify({ ssn: "078-05-1120" }).slice(0, -1);
  for (const more of [{}, { forbidden: "fruit" }]) {
    other.answer = crm.answer = plain;
    const answer = await post({
      ...more,
      text: `${hidden},"list":${deep(20_000)}}`,
      plain: `{"list":${deep(20_000)}}`,
    });
    assert.equal(answer.status, "forbidden" in more ? 403 : 200, answer.text);
    const { arguments: args } = (await textOf(await last("call.forward"))) as {
      arguments: { body: Record<string, string> };
    };
    assert.equal(args.body["text"], "[redacted]");
    assert.equal(args.body["plain"], `{"list":${deep(20_000)}}`);
  }
});
