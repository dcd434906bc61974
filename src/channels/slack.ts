import { z } from "zod";
import { InvalidRequestError } from "../core/oauth/errors.ts";
import { readForm } from "../core/oauth/form.ts";
import { JsonError, readJson } from "../core/token/json.ts";
import type { SlackChannel } from "../core/trust/model.ts";
import type { EgressResponse } from "../system/egress.ts";
import type { MessagePlace, Outgoing, Sent } from "./outgoing.ts";
import { startOf, type Question } from "./question.ts";

/** What the buttons are called in an interaction. */
const ACTIONS = { approve: "ephor_approve", deny: "ephor_deny", open: "ephor_open" } as const;
/** Slack's own: characters of a header and of a text in a block. */
const HEADER_CHARACTERS = 150;
/** Errors of a message that no second try mends; every other one is the channel's, and is tried again. */
const MESSAGE_ERRORS: ReadonlySet<string> = new Set([
  "invalid_blocks",
  "invalid_blocks_format",
  "invalid_arguments",
  "invalid_arg_name",
  "msg_too_long",
  "msg_blocks_too_long",
  "no_text",
  "message_not_found",
  "cant_update_message",
  "edit_window_closed",
]);

/** A text that Slack does not read anything into: no mention, no link, no emoji, no markup. */
const plain = (text: string) => ({ type: "plain_text", text, emoji: false });
const section = (text: string) => ({ type: "section", text: plain(text) });

/** The three characters that mean something where Slack reads markup ("Escaping text"). */
const escaped = (text: string): string =>
  text.replace(/[&<>]/g, (one) => (one === "&" ? "&amp;" : one === "<" ? "&lt;" : "&gt;"));

/** The question, or what became of it, as a message of Block Kit. */
export function slackMessage(channel: SlackChannel, of: Question, place: MessagePlace | undefined): Outgoing {
  const blocks = [
    { type: "header", text: plain(startOf(of.title, HEADER_CHARACTERS)) },
    // At most ten fields in one section.
    { type: "section", fields: of.facts.slice(0, 10).map(([name, value]) => plain(`${name}\n${value}`)) },
    section(`Call\n${of.call}`),
    section(`Arguments\n${of.arguments}`),
    ...(of.isCut ? [section("Something was cut here: look at the whole before you decide.")] : []),
    ...(of.decisions.length > 0 ? [section(startOf(of.decisions.join("\n"), 2_900))] : []),
    { type: "actions", block_id: "ephor", elements: buttonsOf(of) },
    { type: "context", elements: [plain(`${of.id}, ${channel.name}`)] },
  ];
  const message = {
    channel: place?.["channel"] ?? channel.channel,
    ...(place?.["ts"] !== undefined && { ts: place["ts"] }),
    // For notifications and screen readers; read as markup.
    text: escaped(of.title),
    blocks,
    ...(place === undefined && { unfurl_links: false, unfurl_media: false }),
  };
  return orderTo(channel, place?.["ts"] === undefined ? "chat.postMessage" : "chat.update", message);
}

function buttonsOf({ id, uri, isOpen }: Question): object[] {
  const button = (text: string, more: object) => ({ type: "button", text: plain(text), ...more });
  const open = button("Show all of it", { action_id: ACTIONS.open, url: uri });
  if (!isOpen) return [open];
  const sure = (text: string) => ({
    title: plain("Are you sure?"),
    text: plain(text),
    confirm: plain("Yes"),
    deny: plain("No"),
  });
  return [
    button("Approve", {
      action_id: ACTIONS.approve,
      value: id,
      style: "primary",
      confirm: sure("This very call will be made once, in your name as the one who approved it."),
    }),
    button("Deny", { action_id: ACTIONS.deny, value: id, style: "danger" }),
    open,
  ];
}

/** A line that one person alone sees. */
export function slackWhisper(channel: SlackChannel, to: { channel: string; user: string; text: string }): Outgoing {
  return orderTo(channel, "chat.postEphemeral", { ...to, text: escaped(to.text) });
}

function orderTo({ api }: SlackChannel, method: string, message: object): Outgoing {
  return {
    url: `${api}/${method}`,
    headers: { "content-type": "application/json; charset=utf-8", accept: "application/json" },
    body: JSON.stringify(message),
  };
}

const answerShape = z.object({
  ok: z.boolean(),
  error: z.string().optional(),
  channel: z.string().max(64).optional(),
  ts: z.string().max(64).optional(),
});

/** What Slack says: 200 with `ok`, also where it refuses; 429 with `Retry-After`. */
export function slackOutcome(answer: EgressResponse, afterMs: number): Sent {
  if (answer.status !== 200) return { kind: "retry", problem: `status ${answer.status}`, afterMs };
  const read = answerShape.safeParse(jsonOf(answer.body));
  if (!read.success) return { kind: "retry", problem: "answer_malformed", afterMs };
  const { ok, error, channel, ts } = read.data;
  if (ok) {
    const place = channel === undefined || ts === undefined ? undefined : { channel, ts };
    return { kind: "sent", place };
  }
  const problem = /^[a-z_]{1,64}$/.test(error ?? "") ? (error as string) : "refused";
  return MESSAGE_ERRORS.has(problem) ? { kind: "refused", problem } : { kind: "retry", problem, afterMs };
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return undefined;
  }
}

const id = z.string().regex(/^[A-Za-z0-9]{1,64}$/);
const timestamp = z.string().regex(/^[0-9.]{1,64}$/);

/** Members that count; Slack adds others as it grows. */
const interactionShape = z.object({
  type: z.literal("block_actions"),
  user: z.object({ id, team_id: id.optional() }),
  team: z.object({ id }).nullish(),
  container: z.object({ type: z.literal("message"), message_ts: timestamp, channel_id: id }),
  actions: z.array(z.object({ action_id: z.string().max(255), value: z.string().max(2_000).optional() })).length(1),
});

/** A click. */
export interface SlackClick {
  readonly team: string;
  readonly user: string;
  readonly place: { readonly channel: string; readonly ts: string };
  /** Undefined: nothing is decided by it. */
  readonly decision: "approve" | "deny" | undefined;
  readonly approval: string;
}

/**
 * Reads the signed body of an interaction.
 *
 * @returns undefined for what is none of our buttons in a message
 */
export function readSlackClick(body: string): SlackClick | undefined {
  const read = interactionShape.safeParse(payloadOf(body));
  if (!read.success) return undefined;
  const { user, team, container, actions } = read.data;
  const [action] = actions;
  // Somebody of another workspace in a shared channel has his own team's id.
  const ofTeam = user.team_id ?? team?.id;
  if (ofTeam === undefined || action === undefined) return undefined;
  const clicked = (["approve", "deny", "open"] as const).find((name) => ACTIONS[name] === action.action_id);
  if (clicked === undefined) return undefined;
  return {
    team: ofTeam,
    user: user.id,
    place: { channel: container.channel_id, ts: container.message_ts },
    decision: clicked === "open" ? undefined : clicked,
    approval: action.value ?? "",
  };
}

function payloadOf(body: string): unknown {
  try {
    const form = readForm(Buffer.from(body, "latin1"), { repeatable: [], maxParameters: 1 });
    return readJson(Buffer.from(form.get("payload") ?? "", "utf8"));
  } catch (error) {
    if (error instanceof InvalidRequestError || error instanceof JsonError) return undefined;
    throw error;
  }
}
