/** What leaves: questions and what became of them, at least once, whatever the channel does. */
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { ephor } from "../cli/command-line.ts";
import { decide, work } from "../approvals/approval-stage.ts";
import { eventsOf, plain, until } from "../proxy/stage.ts";
import { channelStage, rests } from "./channel-stage.ts";
import { buttonsOf, SLACK_TOKEN, textOf, WEBHOOK_SECRET, type SlackMessage } from "./fakes.ts";

const s = await channelStage(
  { after },
  {
    channels: `  quiet: { webhook: { url: "http://127.0.0.1:9/nobody", secret: desk-hmac }, internal: true }`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [write], name: everywhere, approval: { by: owner, within: 5m, notify: [payments, ops, desk] } }
  - { agent: lonely-bot, resource: crm, actions: [write], name: slack-only, approval: { by: owner, within: 5m, notify: [payments] } }
  - { agent: triage-bot, resource: crm, actions: [write], name: nowhere, approval: { by: owner, notify: [] } }
  - { agent: summary-bot, resource: crm, actions: [write], name: down, approval: { by: owner, within: 5m, notify: [quiet, payments] } }
  - { agent: watch-bot, resource: crm, actions: [write], name: by-two, approval: { by: [owner, { agent: billing-svc }], count: 2, notify: [payments] } }`,
  },
);
const { w, crm, slack, teams, desk } = s;

beforeEach(() => {
  crm.answer = plain;
  slack.meddle = undefined;
  teams.meddle = undefined;
  desk.meddle = undefined;
});

/** The message in Slack that asks about an approval. */
const asked = async (id: string): Promise<SlackMessage> => {
  const find = (): SlackMessage | undefined => slack.messages.find((message) => textOf(message).includes(id));
  await until(() => find() !== undefined, `a message about ${id}`);
  return find() as SlackMessage;
};

const channelsOf = async (id: string): Promise<Record<string, { told: string; problem?: string }>> => {
  const answer = await w.operator("GET", `/v1/approvals/${id}`);
  assert.equal(answer.status, 200, answer.text);
  const list = answer.body["channels"] as { channel: string; told: string; problem?: string }[];
  return Object.fromEntries(list.map(({ channel, ...rest }) => [channel, rest]));
};

const doctor = async (): Promise<string> =>
  (await ephor(["doctor"], { EPHOR_URL: w.url, EPHOR_OPERATOR_KEY: w.operatorKey })).out;

const metric = async (line: RegExp): Promise<number> => {
  const text = await (await fetch(`${w.url}/metrics`)).text();
  return Number(line.exec(text)?.[1] ?? "NaN");
};

test("a question is put to Slack, Teams and a webhook, with what exactly would be called, and changed when it is decided and used", async () => {
  const { waits, post, txn } = await work(s);
  const { approval } = await waits({ name: "Ann", amount: 12 }, { query: "?notify=1" });
  const { id } = approval;
  const message = await asked(id);
  assert.equal(message.channel, "C0123ABCD");
  const text = textOf(message);
  for (const part of [
    "release-bot",
    "agent|release-bot",
    "crm",
    "write",
    "dana@acme.example",
    "/contacts",
    '"Ann"',
    "12",
  ])
    assert.ok(text.includes(part), `${part} in ${text}`);
  const buttons = buttonsOf(message);
  assert.deepEqual([...buttons.keys()], ["Approve", "Deny", "Show all of it"]);
  assert.deepEqual([buttons.get("Approve")?.["value"], buttons.get("Deny")?.["value"]], [id, id]);
  assert.equal(buttons.get("Show all of it")?.["url"], approval.uri);

  await until(() => teams.cards.some((card) => JSON.stringify(card).includes(id)), "a card");
  const card = teams.cards.find((one) => JSON.stringify(one).includes(id));
  assert.match(JSON.stringify(card), /Approval needed: release-bot, crm write/);
  assert.deepEqual((card?.["actions"] as Record<string, unknown>[] | undefined)?.[0]?.["url"], approval.uri);
  assert.equal(teams.seen[0]?.path, "/workflows/1?sig=hidden-in-the-address");

  await until(() => desk.events.some(({ data }) => data["id"] === id), "an event");
  const event = desk.events.find(({ data }) => data["id"] === id);
  assert.deepEqual([event?.type, event?.id], ["approval.pending", `${id}.pending`]);
  assert.deepEqual(event?.data["arguments"], { query: "notify=1", body: { name: "Ann", amount: 12 } });
  assert.deepEqual([event?.data["txn"], event?.data["uri"], event?.data["truncated"]], [txn, approval.uri, false]);
  await until(async () => Object.values(await channelsOf(id)).every(({ told }) => told === "pending"), "told");
  assert.deepEqual(Object.keys(await channelsOf(id)), ["desk", "ops", "payments"]);

  assert.equal((await decide(s, id)).status, 200);
  await until(() => textOf(message).includes("looked at it"), "the decision in Slack");
  assert.match(textOf(message), /operator:operator approved: looked at it/);
  assert.deepEqual([...buttonsOf(message).keys()], ["Show all of it"], "nothing is left to decide");
  assert.equal((await post({ name: "Ann", amount: 12 }, { query: "?notify=1" })).status, 200);
  await until(() => /Approved and used/.test(textOf(message)), "its use in Slack");
  const types = (): string[] => desk.events.filter(({ data }) => data["id"] === id).map(({ type }) => type);
  await until(() => types().includes("approval.used"), "its use at the desk");
  assert.ok(types().every((type) => ["approval.pending", "approval.approved", "approval.used"].includes(type)));
  assert.equal(slack.messages.filter((one) => textOf(one).includes(id)).length, 1, "one message, changed");
  await until(async () => (await channelsOf(id))["ops"]?.told === "used", "its use in Teams");

  const told = (await eventsOf(w, "approval.notify")).filter(({ body }) => JSON.stringify(body).includes(id));
  assert.ok(told.length >= 6 && told.every(({ decision }) => decision === "granted"));
  const secrets = [SLACK_TOKEN, WEBHOOK_SECRET, "hidden-in-the-address"];
  const everything = `${JSON.stringify(await w.events())}${w.lines.join("")}${JSON.stringify(await channelsOf(id))}`;
  for (const secret of secrets) assert.ok(!everything.includes(secret));
});

test("denied, expired and void are told; where notify names one channel or none, only that one is asked", async () => {
  const { waits } = await work(s, { agent: "lonely-bot" });
  const denied = await waits({ n: 1 });
  const message = await asked(denied.approval.id);
  assert.deepEqual(Object.keys(await channelsOf(denied.approval.id)), ["payments"]);
  assert.equal((await decide(s, denied.approval.id, "deny", "not this one")).status, 200);
  await until(() => /Denied: lonely-bot/.test(textOf(message)), "the denial");
  assert.match(textOf(message), /operator:operator denied: not this one/);

  const ends = await work(s, { agent: "lonely-bot" });
  const voided = await asked((await ends.waits({ n: 2 })).approval.id);
  const late = await asked((await waits({ n: 3 })).approval.id);
  assert.equal((await w.operator("POST", "/v1/kill", { txn: ends.txn, reason: "test" })).status, 200);
  w.clock.advance(11);
  await until(() => /^Void/m.test(textOf(voided)), "the kill");
  w.clock.advance(300);
  await until(() => /^Expired/m.test(textOf(late)), "the end of its time");
  assert.ok(!buttonsOf(late).has("Approve") && !buttonsOf(voided).has("Approve"));

  const silent = await work(s, { agent: "triage-bot" });
  const { approval } = await silent.waits({ n: 4 });
  assert.deepEqual(await channelsOf(approval.id), {});
});

test("one yes of two is told before the second", async () => {
  const { waits } = await work(s, { agent: "watch-bot" });
  const { approval } = await waits({ n: 5 });
  const message = await asked(approval.id);
  assert.match(textOf(message), /Approvals\n0 of 2/);
  assert.equal((await decide(s, approval.id)).body["status"], "pending");
  await until(() => /Approvals\n1 of 2/.test(textOf(message)), "the first of two");
  assert.ok(buttonsOf(message).has("Approve"), "it waits for another");
});

test("a channel that is down holds up neither the call nor other channels, says so, and is told when it is back, once", async () => {
  slack.meddle = () => ({ status: 503, headers: { "retry-after": "2" }, body: "down" });
  const { waits, post } = await work(s);
  const { approval } = await waits({ n: 6 });
  await until(() => desk.events.some(({ data }) => data["id"] === approval.id), "the desk is told all the same");
  await until(async () => (await channelsOf(approval.id))["payments"]?.problem === "status 503", "the problem is told");
  assert.equal((await channelsOf(approval.id))["payments"]?.told, "waiting");
  assert.ok(w.lines.some((line) => line.includes("channel_retries") && line.includes("payments")));
  assert.equal((await decide(s, approval.id)).status, 200);
  assert.equal((await post({ n: 6 })).status, 200, "nobody waits for a channel");

  // A later id, so that what is over comes before it.
  w.clock.advance(1);
  const next = await waits({ n: 7 });
  await rests(s, "payments");
  w.clock.advance(61);
  await rests(s, "payments");
  await until(async () => (await metric(/^ephor_channels_stuck (\d+)/m)) === 1, "somebody is to look");
  assert.match(
    await doctor(),
    new RegExp(
      `FAIL {2}channels +payments does not take what waits \\(status 503\\): ${next.approval.id}(?: and \\d+ more)?\n +mend: `,
    ),
  );
  assert.ok((await metric(/^ephor_channel_messages_total\{outcome="retried"\} (\d+)/m)) >= 1);
  slack.meddle = undefined;
  w.clock.advance(61);
  const message = await asked(next.approval.id);
  assert.ok(buttonsOf(message).has("Approve"));
  assert.ok(
    !slack.messages.some((one) => textOf(one).includes(approval.id)),
    "what was over before is not asked any more",
  );
  await until(
    async () => (await channelsOf(next.approval.id))["payments"]?.problem === undefined,
    "no problem any more",
  );
  assert.match(await doctor(), /ok {4}channels/);
});

test("doctor names the secret of a channel that cannot be written to, of each kind", async () => {
  const values: Record<string, string> = {
    "slack-bot-token": SLACK_TOKEN,
    "teams-url": `${teams.url}/workflows/1?sig=hidden-in-the-address`,
    "desk-hmac": WEBHOOK_SECRET,
  };
  for (const name of Object.keys(values)) assert.equal((await w.operator("DELETE", `/v1/secrets/${name}`)).status, 204);
  const { waits } = await work(s);
  const { approval } = await waits({ n: 9 });
  const problems = async (): Promise<unknown[]> =>
    Object.values(await channelsOf(approval.id)).map(({ problem }) => problem);
  await until(async () => (await problems()).every((one) => one === "secret_missing"), "tried");
  const missing = await doctor();
  for (const [channel, name] of [
    ["payments", "slack-bot-token"],
    ["ops", "teams-url"],
    ["desk", "desk-hmac"],
  ])
    assert.match(
      missing,
      new RegExp(`channels +${channel} does not take .*\\n +mend: Set the channel's secret: ephor secret set ${name};`),
    );
  for (const name of Object.keys(values)) await w.operator("PUT", `/v1/secrets/${name}`, { value: "no\nsecret" });
  w.clock.advance(61);
  await until(async () => (await problems()).every((one) => one === "secret_malformed"), "tried again");
  assert.match(await doctor(), /mend: Set the channel's secret anew: ephor secret set slack-bot-token;/);
  for (const [name, value] of Object.entries(values)) await w.operator("PUT", `/v1/secrets/${name}`, { value });
  w.clock.advance(61);
  await until(async () => (await problems()).every((one) => one === undefined), "told");
});

test("what another replica, or this one after a restart, finds unsent is sent", async () => {
  slack.meddle = () => ({ status: 500, body: "down" });
  const { waits } = await work(s, { agent: "lonely-bot" });
  const { approval } = await waits({ n: 8 });
  await until(async () => (await channelsOf(approval.id))["payments"]?.problem === "status 500", "tried");
  const another = await w.replica();
  await w.server.close();
  slack.meddle = undefined;
  w.clock.advance(61);
  await asked(approval.id);
  const answer = await fetch(`${another.url}/v1/approvals/${approval.id}`, {
    headers: { authorization: `Bearer ${w.operatorKey}` },
  });
  assert.equal(answer.status, 200);
});
