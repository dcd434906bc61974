import { z } from "zod";
import { JsonError, readJson } from "../core/token/json.ts";
import type { EgressResponse } from "../system/egress.ts";
import type { Outgoing, Sent } from "./outgoing.ts";
import type { Question } from "./question.ts";
import { APPROVAL_ID } from "../approvals/approval.ts";

/** Text that a card shows as it is: a `TextBlock` would read markup into it. */
const run = (text: string, more: object = {}) => ({ type: "TextRun", text, ...more });
const lines = (...inlines: object[]) => ({ type: "RichTextBlock", inlines });

/** The question, or what became of it, as an Adaptive Card. */
export function teamsMessage(url: string, of: Question): Outgoing {
  const body = [
    lines(run(of.title, { weight: "Bolder", size: "Large" })),
    ...of.facts.map(([name, value]) => lines(run(`${name}: `, { weight: "Bolder" }), run(value))),
    lines(run("Call", { weight: "Bolder" })),
    lines(run(of.call, { fontType: "Monospace" })),
    lines(run("Arguments", { weight: "Bolder" })),
    lines(run(of.arguments, { fontType: "Monospace" })),
    ...(of.isCut ? [lines(run("Something was cut here: look at the whole before you decide."))] : []),
    ...of.decisions.map((one) => lines(run(one))),
    ...(of.isOpen
      ? [lines(run(`Mention Ephor's webhook: approve ${of.id} REASON, or deny ${of.id} REASON.`, { isSubtle: true }))]
      : []),
  ];
  const card = {
    $schema: "http://adaptivecards.io/schemas/adaptive-card.json",
    type: "AdaptiveCard",
    version: "1.5",
    // Read aloud, and shown where no card can be.
    fallbackText: of.title,
    body,
    actions: [{ type: "Action.OpenUrl", title: "Show all of it", url: of.uri }],
  };
  const attachment = { contentType: "application/vnd.microsoft.card.adaptive", contentUrl: null, content: card };
  return {
    url,
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify({ type: "message", attachments: [attachment] }),
  };
}

/** Workflows answer 202. Connectors answer 200 also where they failed, and say so in words. */
export function teamsOutcome(answer: EgressResponse, afterMs: number): Sent {
  const { status, body } = answer;
  if (status >= 200 && status < 300) {
    const isFailed = Buffer.from(body).toString("utf8").startsWith("Webhook message delivery failed");
    return isFailed ? { kind: "retry", problem: "delivery_failed", afterMs } : { kind: "sent", place: undefined };
  }
  const isFinal = status === 400 || status === 413;
  return isFinal
    ? { kind: "refused", problem: `status ${status}` }
    : { kind: "retry", problem: `status ${status}`, afterMs };
}

const guid = z
  .string()
  .regex(/^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$/)
  .transform((text) => text.toLowerCase());

/** Members that count; Teams adds others as it grows. */
const activityShape = z.object({
  type: z.literal("message"),
  id: z.string().min(1).max(256),
  timestamp: z.iso.datetime({ offset: true }),
  text: z.string().max(20_000),
  from: z.object({ aadObjectId: guid }),
  channelData: z.object({ tenant: z.object({ id: guid }) }),
});

/** What somebody wrote to the outgoing webhook. */
export interface TeamsWord {
  readonly tenant: string;
  readonly user: string;
  /** Milliseconds since the epoch, by Teams. */
  readonly atMs: number;
  /** Undefined: no command. */
  readonly command:
    | { readonly decision: "approve" | "deny"; readonly approval: string; readonly reason: string }
    | undefined;
}

/**
 * Reads the signed body of an activity.
 *
 * @returns undefined for what is no message of a person
 */
export function readTeamsWord(body: string): TeamsWord | undefined {
  let json: unknown;
  try {
    json = readJson(Buffer.from(body, "latin1"));
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
  const read = activityShape.safeParse(json);
  if (!read.success) return undefined;
  const { timestamp, text, from, channelData } = read.data;
  return {
    tenant: channelData.tenant.id,
    user: from.aadObjectId,
    atMs: Date.parse(timestamp),
    command: commandOf(text),
  };
}

const COMMAND = new RegExp(`^(approve|deny)\\s+(${APPROVAL_ID.source.slice(1, -1)})(?:\\s+(.*))?$`, "is");
const ENTITIES: Readonly<Record<string, string>> = { nbsp: " ", amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };

/** The text has markup of Teams: the mention of the webhook, paragraphs, entities. */
function commandOf(text: string): TeamsWord["command"] {
  const bare = text
    .replace(/<at>[^<]*<\/at>/gi, " ")
    .replace(/<[^<>]*>/g, " ")
    .replace(/&(nbsp|amp|lt|gt|quot|#39);/g, (_all, name: string) => ENTITIES[name] ?? " ")
    .trim();
  const [, verb, approval, reason = ""] = COMMAND.exec(bare) ?? [];
  if (verb === undefined || approval === undefined) return undefined;
  return { decision: verb.toLowerCase() === "approve" ? "approve" : "deny", approval, reason: reason.trim() };
}
