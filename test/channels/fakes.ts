/** Slack, Teams and a receiver of Standard Webhooks, as far as they are spoken to: what they check is checked here too. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import {
  startUpstream,
  type SeenRequest,
  type UpstreamReply,
  type UpstreamServer,
} from "../support/upstream-server.ts";

type Json = Record<string, unknown>;

/** A message as it stands in the conversation. */
export interface SlackMessage {
  readonly channel: string;
  readonly ts: string;
  text: string;
  blocks: Json[];
}

/** Slack's Web API for one app. */
export interface FakeSlack extends UpstreamServer {
  readonly messages: SlackMessage[];
  readonly whispers: { readonly channel: string; readonly user: string; readonly text: string }[];
  /** Answers the next requests in place of what is right. */
  meddle: ((request: SeenRequest) => UpstreamReply | undefined) | undefined;
}

export const SLACK_TOKEN = "xoxb-0123456789-abcdefghij";
export const SLACK_SIGNING = "8f742231b10e8888abcd99yyyzzz85a5";
/** 32 bytes, as Teams shows them. */
export const TEAMS_SECRET = Buffer.from("0123456789abcdef0123456789abcdef").toString("base64");
export const WEBHOOK_SECRET = `whsec_${Buffer.from("a key of twenty-nine bytes...").toString("base64")}`;

/** What Slack refuses with `invalid_blocks`, and what a stranger's text must never be. */
function checkBlocks(blocks: unknown): void {
  assert.ok(Array.isArray(blocks) && blocks.length >= 1 && blocks.length <= 50);
  const text = (of: unknown, most: number): void => {
    const { type, text: value, emoji } = of as Json;
    assert.equal(type, "plain_text", "markup is read in nothing that a stranger wrote");
    assert.equal(emoji, false);
    assert.ok(typeof value === "string" && value.length >= 1 && value.length <= most, `${String(value).length}`);
  };
  for (const block of blocks as Json[]) {
    switch (block["type"]) {
      case "header":
        text(block["text"], 150);
        break;
      case "section":
        if (block["text"] !== undefined) text(block["text"], 3_000);
        if (block["fields"] !== undefined) {
          assert.ok((block["fields"] as unknown[]).length <= 10);
          for (const field of block["fields"] as unknown[]) text(field, 2_000);
        }
        break;
      case "context":
        for (const element of block["elements"] as unknown[]) text(element, 2_000);
        break;
      case "actions":
        for (const button of block["elements"] as Json[]) {
          assert.equal(button["type"], "button");
          text(button["text"], 75);
          assert.ok(String(button["value"] ?? "").length <= 2_000 && String(button["url"] ?? "").length <= 3_000);
        }
        break;
      default:
        assert.fail(`no block of ours: ${String(block["type"])}`);
    }
  }
}

export async function startSlack(): Promise<FakeSlack> {
  const messages: SlackMessage[] = [];
  const whispers: FakeSlack["whispers"] = [];
  const fake = { messages, whispers, meddle: undefined as FakeSlack["meddle"] };
  const refuse = (error: string): UpstreamReply => ({ status: 200, body: { ok: false, error } });
  const server = await startUpstream((request) => {
    const meddled = fake.meddle?.(request);
    if (meddled !== undefined) return meddled;
    if (request.headers["authorization"] !== `Bearer ${SLACK_TOKEN}`) return refuse("invalid_auth");
    if (request.headers["content-type"] !== "application/json; charset=utf-8") return refuse("invalid_post_type");
    const body = JSON.parse(request.body) as Json & { channel: string; text: string; blocks: Json[]; ts: string };
    switch (request.path) {
      case "/api/chat.postMessage": {
        checkBlocks(body.blocks);
        // Slack answers with the id, also where it was given a name.
        const made = { channel: body.channel, ts: `1795284000.${String(messages.length + 1).padStart(6, "0")}` };
        messages.push({ ...made, text: body.text, blocks: body.blocks });
        return { status: 200, body: { ok: true, ...made, message: { blocks: body.blocks } } };
      }
      case "/api/chat.update": {
        checkBlocks(body.blocks);
        const found = messages.find(({ channel, ts }) => channel === body.channel && ts === body.ts);
        if (found === undefined) return refuse("message_not_found");
        Object.assign(found, { text: body.text, blocks: body.blocks });
        return { status: 200, body: { ok: true, channel: found.channel, ts: found.ts, text: body.text } };
      }
      case "/api/chat.postEphemeral":
        whispers.push({ channel: body.channel, user: String(body["user"]), text: body.text });
        return { status: 200, body: { ok: true, message_ts: "1795284000.999999" } };
      default:
        return refuse("unknown_method");
    }
  });
  return Object.assign(fake, server);
}

/** All text of a message's blocks. */
export function textOf({ blocks }: Pick<SlackMessage, "blocks">): string {
  const texts: string[] = [];
  JSON.stringify(blocks, (key, value: unknown) => {
    if (key === "text" && typeof value === "string") texts.push(value);
    return value;
  });
  return texts.join("\n");
}

/** The buttons of a message by their names. */
export function buttonsOf({ blocks }: Pick<SlackMessage, "blocks">): Map<string, Json> {
  const actions = blocks.find(({ type }) => type === "actions");
  const buttons = (actions?.["elements"] ?? []) as Json[];
  return new Map(buttons.map((button) => [(button["text"] as { text: string }).text, button]));
}

/** A click as Slack sends it: form-encoded, signed over time and body. */
export function slackClick(of: {
  readonly message: Pick<SlackMessage, "channel" | "ts" | "blocks">;
  readonly button: string;
  readonly user: string;
  readonly team: string;
  readonly at: number;
  readonly secret?: string;
  /** Of the button. */
  readonly value?: string;
}): { body: string; headers: Record<string, string> } {
  const button = buttonsOf(of.message).get(of.button) ?? { action_id: "ephor_approve", value: of.value };
  const { text: _text, style: _style, confirm: _confirm, url: _url, ...action } = button;
  const payload = {
    type: "block_actions",
    user: { id: of.user, username: "dana", name: "dana", team_id: of.team },
    api_app_id: "A0123ABCD",
    token: "deprecated",
    container: { type: "message", message_ts: of.message.ts, channel_id: of.message.channel, is_ephemeral: false },
    trigger_id: "12466734323.1395872398",
    team: { id: of.team, domain: "acme" },
    enterprise: null,
    is_enterprise_install: false,
    channel: { id: of.message.channel, name: "payments" },
    message: { type: "message", ts: of.message.ts, blocks: of.message.blocks },
    state: { values: {} },
    response_url: "https://hooks.slack.example/actions/T0123ABCD/1/x",
    actions: [
      { ...action, block_id: "ephor", ...(of.value === undefined ? {} : { value: of.value }), action_ts: "1.2" },
    ],
  };
  const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString();
  return { body, headers: slackHeaders(body, of) };
}

export function slackHeaders(body: string, of: { at: number; secret?: string }): Record<string, string> {
  const signature = createHmac("sha256", of.secret ?? SLACK_SIGNING)
    .update(`v0:${of.at}:${body}`)
    .digest("hex");
  return {
    "content-type": "application/x-www-form-urlencoded",
    "x-slack-request-timestamp": String(of.at),
    "x-slack-signature": `v0=${signature}`,
  };
}

/** A workflow of Teams: what it would render is kept. */
export interface FakeTeams extends UpstreamServer {
  readonly cards: Json[];
  meddle: (() => UpstreamReply | undefined) | undefined;
}

export async function startTeams(): Promise<FakeTeams> {
  const cards: Json[] = [];
  const fake = { cards, meddle: undefined as FakeTeams["meddle"] };
  const server = await startUpstream((request) => {
    const meddled = fake.meddle?.();
    if (meddled !== undefined) return meddled;
    if (Buffer.byteLength(request.body) > 28 * 1_024) return { status: 413, body: "too big" };
    const { type, attachments } = JSON.parse(request.body) as { type: string; attachments: Json[] };
    assert.equal(type, "message");
    assert.equal(attachments[0]?.["contentType"], "application/vnd.microsoft.card.adaptive");
    const card = attachments[0]["content"] as Json;
    assert.deepEqual([card["type"], card["version"]], ["AdaptiveCard", "1.5"]);
    // A TextBlock reads markup.
    for (const element of card["body"] as Json[]) assert.equal(element["type"], "RichTextBlock");
    cards.push(card);
    return { status: 202 };
  });
  return Object.assign(fake, server);
}

/** A word to the outgoing webhook as Teams sends it. */
export function teamsWord(of: {
  readonly text: string;
  readonly tenant: string;
  readonly user: string;
  readonly atMs: number;
  readonly secret?: string;
}): { body: string; headers: Record<string, string> } {
  const body = JSON.stringify({
    type: "message",
    id: "1795284000123",
    timestamp: new Date(of.atMs).toISOString(),
    localTimestamp: "2026-11-21T19:00:00.000+01:00",
    serviceUrl: "https://smba.example/emea/",
    channelId: "msteams",
    from: { id: "29:1Xx", name: "Dana Müller", aadObjectId: of.user },
    conversation: { isGroup: true, id: "19:x@thread.tacv2;messageid=1", conversationType: "channel" },
    recipient: null,
    textFormat: "plain",
    attachments: [{ contentType: "text/html", content: "<div><at>Ephor</at></div>" }],
    text: of.text,
    channelData: { channel: { id: "19:x" }, team: { id: "19:y" }, tenant: { id: of.tenant } },
  });
  const key = Buffer.from(of.secret ?? TEAMS_SECRET, "base64");
  const authorization = `HMAC ${createHmac("sha256", key).update(body, "utf8").digest("base64")}`;
  return { body, headers: { "content-type": "application/json; charset=utf-8", authorization } };
}

/** Signs by Standard Webhooks 1.0. */
export function webhookHeaders(body: string, of: { id: string; at: number; secret?: string }): Record<string, string> {
  const key = Buffer.from((of.secret ?? WEBHOOK_SECRET).slice("whsec_".length), "base64");
  const signature = createHmac("sha256", key).update(`${of.id}.${of.at}.${body}`, "utf8").digest("base64");
  return {
    "content-type": "application/json",
    "webhook-id": of.id,
    "webhook-timestamp": String(of.at),
    "webhook-signature": `v1,${signature}`,
  };
}

/** A receiver of Standard Webhooks: an event counts when its signature is good. */
export interface FakeDesk extends UpstreamServer {
  readonly events: { readonly id: string; readonly type: string; readonly data: Json }[];
  meddle: (() => UpstreamReply | undefined) | undefined;
}

export async function startDesk(now: () => number): Promise<FakeDesk> {
  const events: FakeDesk["events"] = [];
  const fake = { events, meddle: undefined as FakeDesk["meddle"] };
  const server = await startUpstream((request) => {
    const meddled = fake.meddle?.();
    if (meddled !== undefined) return meddled;
    const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": signature } = request.headers;
    const wanted = webhookHeaders(request.body, { id: String(id), at: Number(at) })["webhook-signature"];
    if (signature !== wanted || Math.abs(Number(at) - now()) > 300) return { status: 401 };
    const { type, data } = JSON.parse(request.body) as { type: string; data: Json };
    events.push({ id: String(id), type, data });
    return { status: 204 };
  });
  return Object.assign(fake, server);
}
