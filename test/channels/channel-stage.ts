/** Calls that wait for somebody, with a Slack, a Teams and a desk where they are asked for. */
import assert from "node:assert/strict";
import type { Cleanup } from "../support/database.ts";
import { stage, until, type Stage } from "../proxy/stage.ts";
import {
  SLACK_SIGNING,
  SLACK_TOKEN,
  startDesk,
  startSlack,
  startTeams,
  TEAMS_SECRET,
  WEBHOOK_SECRET,
  type FakeDesk,
  type FakeSlack,
  type FakeTeams,
} from "./fakes.ts";

export const TEAM = "T0123ABCD";
export const DANA = "U0123DANA";
export const TENANT = "6babcaad-604b-40ac-a9d7-9fd97c0b779f";
export const DANA_AAD = "87d349ed-44d7-43e1-9a83-5f2406dee5bd";

export interface ChannelStage extends Stage {
  readonly slack: FakeSlack;
  readonly teams: FakeTeams;
  readonly desk: FakeDesk;
}

/** @param o.grants of agents at `crm`, with their approvals */
export async function channelStage(
  t: Cleanup,
  o: { grants: string; operators?: string; channels?: string },
): Promise<ChannelStage> {
  const s = await stage(t, {
    grants: "  - { agent: release-bot, resource: crm, actions: [read] }",
    edit: (trust) => trust.replace("identifies: humans,", "identifies: humans, client_id: console,"),
  });
  const { w } = s;
  const slack = await startSlack();
  const teams = await startTeams();
  const desk = await startDesk(w.now);
  t.after(() => [slack, teams, desk].forEach((one) => one.stop()));
  for (const [name, value] of Object.entries({
    "slack-bot-token": SLACK_TOKEN,
    "slack-signing": SLACK_SIGNING,
    "teams-hmac": TEAMS_SECRET,
    "teams-url": `${teams.url}/workflows/1?sig=hidden-in-the-address`,
    "desk-hmac": WEBHOOK_SECRET,
  })) {
    const put = await w.operator("PUT", `/v1/secrets/${name}`, { value });
    assert.ok(put.status < 300, put.text);
  }
  await w.apply(
    `
operators:
  dana:
    email: dana@acme.example
    slack: { team: ${TEAM}, user: ${DANA} }
    teams: { tenant: ${TENANT}, user: ${DANA_AAD} }
${o.operators ?? ""}
channels:
  payments: { slack: { channel: C0123ABCD, token: slack-bot-token, signing_secret: slack-signing, api: "${slack.url}/api" }, internal: true }
  ops: { teams: { webhook: { secret: teams-url }, secret: teams-hmac }, internal: true }
  desk: { webhook: { url: "${desk.url}/in", secret: desk-hmac, operators: [dana] }, internal: true }
${o.channels ?? ""}
grants:
${o.grants}`,
    "people.yaml",
  );
  return { ...s, slack, teams, desk };
}

/**
 * Waits until a channel that takes nothing waits for its next try. Time that is moved while a try is under way would be moved
 * past what that try then plans from.
 */
export async function rests({ w }: Stage, channel: string): Promise<void> {
  const resting = async (): Promise<boolean> => {
    const sql = "select 1 from ephor.channel_senders where channel = $1 and claim is null and retry_at_ms > $2";
    return (await w.admin(sql, [channel, Math.floor(w.clock.nowMs())])).length === 1;
  };
  await until(resting, `${channel} waits for its next try`);
}
