/** What channels send: it counts when it is signed, in time, new, from a mapped operator, and from where the question was put. */
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { work } from "../approvals/approval-stage.ts";
import { eventsOf, plain, until } from "../proxy/stage.ts";
import { JWT_TYPE, ID_TOKEN_TYPE, type Answer } from "../support/world.ts";
import { channelStage, DANA, DANA_AAD, rests, TEAM, TENANT } from "./channel-stage.ts";
import {
  SLACK_TOKEN,
  slackClick,
  slackHeaders,
  teamsWord,
  textOf,
  webhookHeaders,
  buttonsOf,
  type SlackMessage,
} from "./fakes.ts";

const SAM = "U0123SAMM";
const s = await channelStage(
  { after },
  {
    operators: `
  sam: { email: sam@acme.example, sign_in: { issuer: okta, claims: { sub: 00u2cd } }, slack: { team: ${TEAM}, user: ${SAM} } }
  kim: { sign_in: { issuer: okta, claims: { sub: 00u3ef } }, slack: { team: ${TEAM}, user: U0123KIMM }, groups: [payments] }
  pat: { email: pat@acme.example, slack: { team: ${TEAM}, user: U0123PATT }, roles: [read], groups: [payments] }`,
    channels: `
  other: { slack: { channel: C0999WXYZ, token: slack-bot-token, signing_secret: slack-signing, api: "http://127.0.0.1:9/api" }, internal: true }
  mute: { webhook: { url: "http://127.0.0.1:9/in", secret: desk-hmac }, internal: true }
  unset: { webhook: { url: "http://127.0.0.1:9/in", secret: nobody-set-it, operators: [dana] }, internal: true }
  badly: { webhook: { url: "http://127.0.0.1:9/in", secret: teams-hmac, operators: [dana] }, internal: true }`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [write], name: everywhere, approval: { by: owner, within: 1h, notify: [payments, ops, desk] } }
  - { agent: lonely-bot, resource: crm, actions: [write], name: elsewhere, approval: { by: owner, within: 5m, notify: [payments] } }
  - { agent: triage-bot, resource: crm, actions: [write], name: for-humans, on_behalf_of: { issuer: okta }, approval: { by: { group: payments }, within: 5m, notify: [payments] } }
  - { agent: summary-bot, resource: crm, actions: [write], name: self-only, on_behalf_of: { issuer: okta }, approval: { by: self, within: 5m, notify: [payments] } }
  - { agent: watch-bot, resource: crm, actions: [write], name: by-two, approval: { by: [owner, { group: payments }], count: 2, notify: [payments] } }`,
  },
);
const { w, crm, slack, teams, desk } = s;

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
  slack.whispers.length = 0;
});

const send = (path: string, { body, headers }: { body: string; headers: Record<string, string> }): Promise<Answer> =>
  w.request("POST", path, { body, headers });

const asked = async (id: string): Promise<SlackMessage> => {
  const find = (): SlackMessage | undefined => slack.messages.find((message) => textOf(message).includes(id));
  await until(() => find() !== undefined, `a message about ${id}`);
  // Its place is written down right after it was sent.
  await until(async () => (await toldAt(id, "payments")) === "pending", "told");
  return find() as SlackMessage;
};

const toldAt = async (id: string, channel: string): Promise<string | undefined> => {
  const { body } = await w.operator("GET", `/v1/approvals/${id}`);
  return (body["channels"] as { channel: string; told: string }[]).find((one) => one.channel === channel)?.told;
};

const statusOf = async (id: string): Promise<unknown> =>
  (await w.operator("GET", `/v1/approvals/${id}`)).body["status"];

const click = (
  message: SlackMessage,
  o: Partial<Parameters<typeof slackClick>[0]> & { path?: string } = {},
): Promise<Answer> =>
  send(
    o.path ?? "/hooks/slack/payments",
    slackClick({ message, button: "Approve", user: DANA, team: TEAM, at: w.now(), ...o }),
  );

/** The newest refusal of what channels send. */
const refusalOf = async (answer: Answer): Promise<unknown> => {
  const requestId = answer.headers.get("x-request-id");
  const found = (await w.events({ decision: "refused" })).find(
    ({ body }) => (body as { requestId?: string }).requestId === requestId,
  );
  return found?.["reason"];
};

/** A token of an agent on behalf of a human, and a call with it that waits. */
async function onBehalf(agent: string, sub: string, body: object): Promise<string> {
  const token = await s.token("crm:write", {
    agent,
    form: {
      subject_token: w.human(sub),
      subject_token_type: ID_TOKEN_TYPE,
      actor_token: w.workload(agent),
      actor_token_type: JWT_TYPE,
    },
  });
  const answer = await s.send("POST", "/http/crm/contacts", {
    token,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 403, answer.text);
  return (JSON.parse(answer.text) as { approval: { id: string } }).approval.id;
}

test("a click in Slack by a mapped operator decides, once; it is in the ledger with who and by which way, and the call passes", async () => {
  const { waits, post } = await work(s);
  const { approval } = await waits({ n: 1 });
  const message = await asked(approval.id);
  const opened = await click(message, { button: "Show all of it" });
  assert.deepEqual([opened.status, await statusOf(approval.id)], [200, "pending"], "looking decides nothing");
  const one = slackClick({ message, button: "Approve", user: DANA, team: TEAM, at: w.now() });
  const answer = await send("/hooks/slack/payments", one);
  assert.deepEqual([answer.status, answer.text], [200, ""]);
  assert.equal(await statusOf(approval.id), "approved");
  const view = await w.operator("GET", `/v1/approvals/${approval.id}`);
  const [decision] = view.body["decisions"] as Record<string, unknown>[];
  assert.deepEqual(
    [decision?.["by"], decision?.["via"], decision?.["decision"], decision?.["reason"]],
    ["operator:dana", "slack", "approve", "in Slack"],
  );
  const [event] = await eventsOf(w, "approval.decide");
  assert.deepEqual([event?.["decision"], event?.["agent"]], ["granted", "operator:dana"]);
  assert.match(JSON.stringify(event), /"via":"slack"/);
  const [received] = await eventsOf(w, "hook.receive");
  assert.deepEqual([received?.["decision"], received?.["agent"]], ["granted", "operator:dana"]);
  const again = await send("/hooks/slack/payments", one);
  assert.deepEqual(
    [again.status, again.text, await refusalOf(again)],
    [401, "", "replayed"],
    "A-APP-04 a replayed click",
  );
  assert.equal((await post({ n: 1 })).status, 200);
  assert.equal(crm.seen.length, 1);
  const late = await click(message, { value: approval.id });
  assert.equal(late.status, 200);
  await until(() => slack.whispers.length === 1, "a whisper");
  assert.deepEqual([slack.whispers[0]?.user, slack.whispers[0]?.channel], [DANA, "C0123ABCD"]);
  assert.match(slack.whispers[0]?.text ?? "", /used already/);
});

test("Deny in Slack denies", async () => {
  const { waits, post } = await work(s);
  const { approval } = await waits({ n: 2 });
  assert.equal((await click(await asked(approval.id), { button: "Deny" })).status, 200);
  assert.equal(await statusOf(approval.id), "denied");
  assert.equal((await post({ n: 2 })).status, 403);
});

test("A-APP-04 forged, unsigned, stale and early clicks get 401 and nothing else, each recorded with its reason", async () => {
  const { waits } = await work(s);
  const { approval } = await waits({ n: 3 });
  const message = await asked(approval.id);
  const signed = (o: { age?: number; secret?: string } = {}) =>
    slackClick({ message, button: "Approve", user: DANA, team: TEAM, at: w.now() - (o.age ?? 0), ...o });
  const changed = (headers: (of: Record<string, string>) => Record<string, string | undefined>) => () => {
    const { body, headers: good } = signed();
    const all = Object.entries({ ...good, ...headers(good) });
    return {
      body,
      headers: Object.fromEntries(all.filter(([, value]) => value !== undefined)) as Record<string, string>,
    };
  };
  const cases: [string, () => { body: string; headers: Record<string, string> }, string, string?][] = [
    ["no signature", changed(() => ({ "x-slack-signature": undefined })), "hook_unsigned"],
    ["no time", changed(() => ({ "x-slack-request-timestamp": undefined })), "hook_unsigned"],
    ["another secret", () => signed({ secret: "x".repeat(32) }), "hook_signature"],
    [
      "a changed body",
      () => ({ ...signed(), body: signed().body.replace("ephor_approve", "ephor_deny") }),
      "hook_signature",
    ],
    ["a changed time", changed(() => ({ "x-slack-request-timestamp": String(w.now() - 1) })), "hook_signature"],
    ["a cut one", changed((of) => ({ "x-slack-signature": of["x-slack-signature"]?.slice(0, -1) })), "hook_signature"],
    ["signed five minutes ago", () => signed({ age: 301 }), "hook_stale"],
    ["signed in the future", () => signed({ age: -301 }), "hook_stale"],
    ["time that is none", changed(() => ({ "x-slack-request-timestamp": "NaN" })), "hook_stale"],
    ["no channel of this name", signed, "hook_channel_unknown", "/hooks/slack/nobody"],
    ["a channel of another kind", signed, "hook_channel_unknown", "/hooks/slack/desk"],
  ];
  for (const [label, request, reason, path = "/hooks/slack/payments"] of cases) {
    const answer = await send(path, request());
    assert.deepEqual([answer.status, answer.text], [401, ""], label);
    const [newest] = await eventsOf(w, "hook.receive");
    assert.deepEqual([newest?.["decision"], newest?.["reason"]], ["refused", reason], label);
    assert.equal(
      (newest?.["body"] as { requestId?: string } | undefined)?.requestId,
      answer.headers.get("x-request-id"),
      label,
    );
    // Of strangers there is one row a minute for each reason and network.
    w.clock.advance(61);
  }
  assert.equal(await statusOf(approval.id), "pending");
  assert.equal((await w.request("GET", "/hooks/slack/payments")).status, 405);
  assert.equal(
    (await send("/hooks/slack/payments", changed(() => ({ "content-type": "application/json" }))())).status,
    415,
  );
  const big = "payload=".padEnd(300_000, "x");
  assert.equal(
    (await send("/hooks/slack/payments", { body: big, headers: slackHeaders(big, { at: w.now() }) })).status,
    413,
  );
  assert.equal((await click(message)).status, 200, "the right one still counts");
  assert.equal(await statusOf(approval.id), "approved");
});

test("A-APP-04 a signed click of somebody unmapped, of another team, or who may not is told so in a whisper and recorded as refused", async () => {
  const { waits } = await work(s);
  const { approval } = await waits({ n: 4 });
  const message = await asked(approval.id);
  const cases: [string, { user: string; team?: string }, string, RegExp][] = [
    ["unmapped", { user: "U0999NOBD" }, "operator_unknown", /no operator.*user: U0999NOBD/],
    ["another team", { user: DANA, team: "T0999ZZZZ" }, "operator_unknown", /team: T0999ZZZZ/],
    ["not the owner", { user: SAM }, "approver_not_asked", /asks somebody else/],
    ["without the role", { user: "U0123PATT" }, "role_missing", /role approve/],
  ];
  for (const [label, by, reason, said] of cases) {
    slack.whispers.length = 0;
    const answer = await click(message, by);
    assert.deepEqual([answer.status, answer.text, await refusalOf(answer)], [200, "", reason], label);
    await until(() => slack.whispers.length === 1, label);
    assert.equal(slack.whispers[0]?.user, by.user);
    assert.match(slack.whispers[0]?.text ?? "", said, label);
    assert.equal(await statusOf(approval.id), "pending", label);
  }
});

test("A-APP-04 a click counts only from the message that asks, at the channel that was told", async () => {
  const mine = await work(s, { agent: "lonely-bot" });
  const { approval } = await mine.waits({ n: 5 });
  const message = await asked(approval.id);
  const { waits } = await work(s);
  const another = await asked((await waits({ n: 6 })).approval.id);
  const wrong: [string, Promise<Answer>][] = [
    ["another approval's message", click(another, { value: approval.id })],
    ["a time that is none of ours", click({ ...message, ts: "1795284000.777777" })],
    ["another conversation", click({ ...message, channel: "C0999WXYZ" })],
    ["another channel's address, by the same secret", click(message, { path: "/hooks/slack/other" })],
    ["no approval", click(message, { value: "apr_01J00000000000000000000000" })],
    ["nonsense", click(message, { value: "'; drop table approvals; --" })],
  ];
  for (const [label, sent] of wrong) {
    const answer = await sent;
    assert.deepEqual([answer.status, await refusalOf(answer)], [200, "hook_message_foreign"], label);
  }
  assert.equal(await statusOf(approval.id), "pending");

  // The same, where the question went to Slack alone.
  const word = teamsWord({
    text: `<at>Ephor</at> approve ${approval.id} ok`,
    tenant: TENANT,
    user: DANA_AAD,
    atMs: w.clock.nowMs(),
  });
  const inTeams = await send("/hooks/teams/ops", word);
  assert.deepEqual([inTeams.status, await refusalOf(inTeams)], [200, "hook_message_foreign"]);
  assert.match(String(inTeams.body["text"]), /not asked here/);
  const body = JSON.stringify({ approval: approval.id, decision: "approve", reason: "ok", operator: "dana" });
  const atDesk = await send("/hooks/webhook/desk", {
    body,
    headers: webhookHeaders(body, { id: "msg_1", at: w.now() }),
  });
  assert.deepEqual([atDesk.status, await refusalOf(atDesk)], [404, "hook_message_foreign"]);
  assert.equal(await statusOf(approval.id), "pending");
});

test("A-APP-04 INV-20 the human who asks never approves in Slack, nor does one of whom nobody can tell; self is never by Slack", async () => {
  const id = await onBehalf("triage-bot", "00u3ef", { n: 7 });
  const message = await asked(id);
  const himself = await click(message, { user: "U0123KIMM" });
  assert.deepEqual([himself.status, await refusalOf(himself)], [200, "approver_is_requester"]);
  const nobody = await click(message, { user: DANA });
  assert.equal(await refusalOf(nobody), "approver_unproven");
  assert.equal(await statusOf(id), "pending");
  const other = await onBehalf("triage-bot", "00u4gh", { n: 8 });
  assert.equal((await click(await asked(other), { user: "U0123KIMM" })).status, 200);
  assert.equal(await statusOf(other), "approved", "for somebody else he may");

  const own = await onBehalf("summary-bot", "00u2cd", { n: 9 });
  const refused = await click(await asked(own), { user: SAM });
  assert.equal(refused.status, 200);
  assert.ok(["approver_is_requester", "sign_in_too_old"].includes(String(await refusalOf(refused))));
  assert.equal(await statusOf(own), "pending");
});

test("count: 2 takes two operators in Slack; the same one twice is one", async () => {
  const { waits, post } = await work(s, { agent: "watch-bot" });
  const { approval } = await waits({ n: 10 });
  const message = await asked(approval.id);
  await click(message);
  await until(() => /Approvals\n1 of 2/.test(textOf(message)), "one of two");
  await click(message, { at: w.now() + 1 });
  await until(() => slack.whispers.some(({ text }) => /decided on this already/.test(text)), "told so");
  assert.equal(await statusOf(approval.id), "pending");
  await click(message, { user: "U0123KIMM" });
  assert.equal(await statusOf(approval.id), "approved");
  assert.equal((await post({ n: 10 })).status, 200);
});

test("what is signed and no click of ours is recorded and decides nothing", async () => {
  const requests = [
    "payload=%7B%7D",
    "payload=not-json",
    "payload=%7B%7D&payload=%7B%7D",
    "other=1",
    "",
    `payload=${encodeURIComponent('{"type":"block_actions","type":"x"}')}`,
    `payload=${encodeURIComponent('{"type":"view_submission"}')}`,
  ];
  for (const body of requests) {
    const answer = await send("/hooks/slack/payments", { body, headers: slackHeaders(body, { at: w.now() }) });
    assert.deepEqual([answer.status, await refusalOf(answer)], [200, "hook_malformed"], body);
  }
});

test("in Teams a word to the outgoing webhook decides, with its reason; unsigned, stale, replayed, unmapped ones do not", async () => {
  const { waits, post } = await work(s);
  const { approval } = await waits({ n: 11 });
  const { id } = approval;
  await until(async () => (await toldAt(id, "ops")) === "pending", "told in Teams");
  const say = (text: string, o: Partial<Parameters<typeof teamsWord>[0]> = {}) =>
    send("/hooks/teams/ops", teamsWord({ text, tenant: TENANT, user: DANA_AAD, atMs: w.clock.nowMs(), ...o }));
  const right = `<at>Ephor</at> approve ${id} agreed &amp; checked`;
  const forged = await say(right, { secret: Buffer.from("another secret of 32 bytes......").toString("base64") });
  assert.deepEqual([forged.status, forged.text], [401, ""]);
  const word = teamsWord({ text: right, tenant: TENANT, user: DANA_AAD, atMs: w.clock.nowMs() });
  const bare = await send("/hooks/teams/ops", { ...word, headers: { "content-type": "application/json" } });
  assert.deepEqual([bare.status, bare.text], [401, ""]);
  for (const atMs of [w.clock.nowMs() - 301_000, w.clock.nowMs() + 301_000]) {
    const stale = await say(right, { atMs });
    assert.deepEqual([stale.status, stale.text, await refusalOf(stale)], [401, "", "hook_stale"]);
  }
  const stranger = await say(right, { user: "99999999-44d7-43e1-9a83-5f2406dee5bd" });
  assert.deepEqual([stranger.status, await refusalOf(stranger)], [200, "operator_unknown"]);
  assert.match(String(stranger.body["text"]), /no operator.*99999999-/);
  const elsewhere = await say(right, { tenant: "99999999-604b-40ac-a9d7-9fd97c0b779f" });
  assert.equal(await refusalOf(elsewhere), "operator_unknown");
  const help = await say("<at>Ephor</at> hello");
  assert.match(String(help.body["text"]), /Write: approve/);
  const body = '{"type":"message","type":"message"}';
  const { headers } = teamsWord({ text: "", tenant: TENANT, user: DANA_AAD, atMs: 0 });
  assert.equal((await send("/hooks/teams/ops", { body, headers })).status, 401);
  assert.equal(await statusOf(id), "pending");

  const done = await send("/hooks/teams/ops", word);
  assert.deepEqual([done.status, done.body["type"]], [200, "message"]);
  assert.equal(done.body["text"], `Done: ${id} is approved.`);
  const view = await w.operator("GET", `/v1/approvals/${id}`);
  const [decision] = view.body["decisions"] as Record<string, unknown>[];
  assert.deepEqual(
    [decision?.["by"], decision?.["via"], decision?.["reason"]],
    ["operator:dana", "teams", "agreed & checked"],
  );
  const replayed = await send("/hooks/teams/ops", word);
  assert.deepEqual([replayed.status, replayed.text, await refusalOf(replayed)], [401, "", "replayed"]);
  assert.equal((await post({ n: 11 })).status, 200);
  await until(
    () =>
      teams.cards.some(
        (card) => JSON.stringify(card).includes(`${id}`) && JSON.stringify(card).includes("Approved and used"),
      ),
    "a second card",
  );
});

test("a webhook decides in the name of an operator that the channel speaks for, and of nobody else", async () => {
  const { waits, post } = await work(s);
  const { approval } = await waits({ n: 12 });
  const { id } = approval;
  await until(async () => (await toldAt(id, "desk")) === "pending", "told at the desk");
  const order = { approval: id, decision: "approve", reason: "ticket 4711", operator: "dana" };
  let number = 0;
  const say = (
    body: string,
    o: { path?: string; at?: number; secret?: string; headers?: Record<string, string> } = {},
  ) => {
    const { path = "/hooks/webhook/desk", at = w.now(), headers = {} } = o;
    const signed = webhookHeaders(body, {
      id: `msg_${++number}`,
      at,
      ...(o.secret === undefined ? {} : { secret: o.secret }),
    });
    return send(path, { body, headers: { ...signed, ...headers } });
  };
  const text = JSON.stringify(order);
  const strangers: [string, Promise<Answer>][] = [
    [
      "another secret",
      say(text, { secret: `whsec_${Buffer.from("another key of 29 bytes......").toString("base64")}` }),
    ],
    ["stale", say(text, { at: w.now() - 301 })],
    ["another id", say(text, { headers: { "webhook-id": "msg_x" } })],
    ["no signature", say(text, { headers: { "webhook-signature": "" } })],
    ["a channel that is told and decides nothing", say(text, { path: "/hooks/webhook/mute" })],
    ["a secret that is not set", say(text, { path: "/hooks/webhook/unset" })],
    ["a secret that is no key", say(text, { path: "/hooks/webhook/badly" })],
  ];
  for (const [label, sent] of strangers) {
    const answer = await sent;
    if (label === "a channel that is told and decides nothing") assert.equal(answer.status, 403, label);
    else assert.deepEqual([answer.status, answer.text], [401, ""], label);
  }
  const refused: [string, object, number, string][] = [
    ["not of the channel", { ...order, operator: "sam" }, 403, "operator_unknown"],
    ["nobody", { ...order, operator: "nobody" }, 403, "operator_unknown"],
    ["no reason", { ...order, reason: " " }, 400, "hook_malformed"],
    ["more members", { ...order, via: "console" }, 400, "hook_malformed"],
    ["another decision", { ...order, decision: "APPROVE" }, 400, "hook_malformed"],
  ];
  for (const [label, body, status, reason] of refused) {
    const answer = await say(JSON.stringify(body));
    assert.deepEqual([answer.status, await refusalOf(answer)], [status, reason], label);
  }
  assert.equal((await say(text.replace("{", '{"operator":"sam",'))).status, 400, "a member twice");
  assert.equal(await statusOf(id), "pending");

  const headers = webhookHeaders(text, { id: "msg_good", at: w.now() });
  // A sender that rotates its secret signs twice.
  const twice = { ...headers, "webhook-signature": `v1,${"A".repeat(43)}= ${headers["webhook-signature"]}` };
  const done = await send("/hooks/webhook/desk", { body: text, headers: twice });
  assert.deepEqual([done.status, done.body], [200, { approval: id, status: "approved" }]);
  const again = await send("/hooks/webhook/desk", { body: text, headers });
  assert.deepEqual([again.status, again.text, await refusalOf(again)], [401, "", "replayed"]);
  assert.equal((await say(text)).status, 409, "sent anew it is decided already");
  const event = (await eventsOf(w, "approval.decide")).find(({ decision: kind }) => kind === "granted");
  assert.match(JSON.stringify(event), /"via":"webhook"/);
  assert.equal((await post({ n: 12 })).status, 200);
  assert.ok(desk.events.length > 0);
});

test("a desk that decides before it answers that it took the question is heard; one that was not asked is not", async () => {
  const decide = (id: string): Promise<Answer> => {
    const body = JSON.stringify({ approval: id, decision: "deny", reason: "by rule", operator: "dana" });
    return send("/hooks/webhook/desk", { body, headers: webhookHeaders(body, { id: `early_${id}`, at: w.now() }) });
  };
  desk.meddle = () => ({ status: 500 });
  const { waits } = await work(s);
  const { approval } = await waits({ n: "early" });
  assert.equal(await toldAt(approval.id, "desk"), "waiting");
  const answer = await decide(approval.id);
  assert.deepEqual([answer.status, answer.body["status"]], [200, "denied"], answer.text);
  const lonely = await work(s, { agent: "lonely-bot" });
  const elsewhere = await lonely.waits({ n: "elsewhere" });
  assert.equal((await decide(elsewhere.approval.id)).status, 404);
  assert.equal(await statusOf(elsewhere.approval.id), "pending");
  await rests(s, "desk");
  desk.meddle = undefined;
  // It is tried again after a pause.
  w.clock.advance(61);
});

test("a secret that was set anew counts at once, and the old one no more", async () => {
  const { waits } = await work(s);
  const { approval } = await waits({ n: 13 });
  const message = await asked(approval.id);
  const put = (value: string) => w.operator("PUT", "/v1/secrets/slack-signing", { value });
  assert.ok((await put("a-new-signing-secret-0123456789")).status < 300);
  assert.equal((await click(message)).status, 401);
  assert.equal((await click(message, { secret: "a-new-signing-secret-0123456789" })).status, 200);
  assert.equal(await statusOf(approval.id), "approved");
  assert.ok((await put("8f742231b10e8888abcd99yyyzzz85a5")).status < 300);
});

test("without its signing secret nothing is heard, and the log says which one to set", async () => {
  const { waits } = await work(s);
  const { approval } = await waits({ n: 15 });
  const message = await asked(approval.id);
  assert.equal((await w.operator("DELETE", "/v1/secrets/slack-signing")).status, 204);
  assert.equal((await click(message)).status, 401);
  assert.ok(w.lines.some((line) => line.includes("channel_secret_unusable") && line.includes("set slack-signing;")));
  await w.operator("PUT", "/v1/secrets/slack-signing", { value: "8f742231b10e8888abcd99yyyzzz85a5" });
  assert.equal((await click(message)).status, 200);
});

test("an operator who was removed decides nothing any more", async () => {
  const { waits } = await work(s);
  const { approval } = await waits({ n: 14 });
  const message = await asked(approval.id);
  assert.ok(
    (
      await w.operator("PUT", "/v1/operators/temp", {
        slack: { team: TEAM, user: "U0123TEMP" },
        email: "temp@acme.example",
      })
    ).status < 300,
  );
  assert.equal(await refusalOf(await click(message, { user: "U0123TEMP" })), "approver_not_asked");
  assert.ok((await w.operator("DELETE", "/v1/operators/temp")).status < 300);
  assert.equal(await refusalOf(await click(message, { user: "U0123TEMP" })), "operator_unknown");
});

test("A-APP-05 hostile text is shown as text, with its controls visible, cut with a way to the whole, and no secret is in it", async () => {
  const { waits } = await work(s);
  const body = {
    note: "<!channel> *bold* <https://evil.example|click> :rotating_light: @here \u202Eevorppa\u0007 \u200b&amp;",
    long: "x".repeat(100_000),
  };
  const { approval } = await waits(body);
  const message = await asked(approval.id);
  const text = textOf(message);
  assert.ok(text.includes("\\u202e") && text.includes("\\u0007") && text.includes("\\u200b"), text.slice(0, 1_500));
  assert.ok(!["\u202e", "\u0007", "\u200b"].some((control) => text.includes(control)));
  assert.match(text, /… \(cut\)/);
  assert.match(text, /look at the whole before you decide/);
  assert.equal(buttonsOf(message).get("Show all of it")?.["url"], approval.uri);
  await until(() => teams.cards.some((card) => JSON.stringify(card).includes(approval.id)), "a card");
  const event = (): (typeof desk.events)[number] | undefined =>
    desk.events.find(({ data }) => data["id"] === approval.id);
  await until(() => event() !== undefined, "an event");
  assert.deepEqual([event()?.data["truncated"], "arguments" in (event()?.data ?? {})], [true, false]);
  assert.ok(!JSON.stringify([...slack.messages, ...teams.cards, ...desk.events]).includes(SLACK_TOKEN));
});

test("a secret that is no key is opened once a minute, however many strangers ask", async () => {
  const openings = async (): Promise<number> =>
    (await w.events({ type: "hook.receive", decision: "granted" })).filter((event) =>
      JSON.stringify(event).includes('"channel":"badly"'),
    ).length;
  const body = JSON.stringify({ approval: "x", decision: "approve", reason: "ok", operator: "dana" });
  const ask = async (): Promise<Answer> =>
    await send("/hooks/webhook/badly", { body, headers: webhookHeaders(body, { id: "m", at: w.now() }) });
  w.clock.advance(61);
  const before = await openings();
  for (let at = 0; at < 4; at++) assert.equal((await ask()).status, 401);
  assert.equal((await openings()) - before, 1);
  w.clock.advance(61);
  assert.equal((await ask()).status, 401);
  assert.equal((await openings()) - before, 2);
});

test("a flood of one network is bounded, and counted", async () => {
  let limited = 0;
  for (let at = 0; at < 260; at += 20) {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        send("/hooks/teams/ops", { body: "{}", headers: { "content-type": "application/json" } }),
      ),
    );
    limited += answers.filter(({ status }) => status === 429).length;
    assert.ok(answers.every(({ status }) => status === 401 || status === 429));
  }
  assert.ok(limited >= 1);
  assert.ok((await w.events({ decision: "refused" })).some(({ reason }) => reason === "rate_limited"));
  w.clock.advance(60);
});

test("only the operator key changes channels, for whoever holds their secrets speaks for operators", async () => {
  await w.apply(
    "grants:\n  - { agent: billing-svc, resource: ephor, actions: [trust], name: billing-trust }",
    "trust-bot.yaml",
  );
  const answer = await w.self("billing-svc", { scope: "ephor:trust", resource: `${w.server.issuer}/v1` });
  const headers = { authorization: `Bearer ${String(answer.body["access_token"])}` };
  const channel = { webhook: { url: "https://evil.example/in", secret: "desk-hmac", operators: ["dana"] } };
  const refused = await w.request("PUT", "/v1/channels/mine", { headers, body: channel });
  assert.equal(refused.status, 403, refused.text);
  const [event] = await w.events({ type: "trust.apply", decision: "refused" });
  assert.deepEqual([event?.["agent"], event?.["reason"]], ["billing-svc", "client_not_allowed"]);
  assert.equal((await w.operator("GET", "/v1/channels/mine")).status, 404);
  assert.ok((await w.operator("PUT", "/v1/channels/mine", channel)).status < 300);
  const unknown = await w.operator("PUT", "/v1/channels/mine", {
    webhook: { ...channel.webhook, operators: ["nobody"] },
  });
  assert.equal(unknown.status, 422, unknown.text);
  assert.ok((await w.operator("DELETE", "/v1/channels/mine")).status < 300);
  const named = await w.operator("DELETE", "/v1/channels/payments");
  assert.ok(named.status >= 400, "grants name it, and it belongs to a file");
});
