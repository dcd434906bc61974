import type { StoredApproval } from "../approvals/approval.ts";
import type { Channel } from "../core/trust/model.ts";
import type { SecretBytes } from "../vault/secret-bytes.ts";
import type { ChannelsDeps } from "./channels.ts";
import { withSecrets } from "./opened.ts";
import type { MessagePlace, Outgoing, Sent } from "./outgoing.ts";
import { questionOf } from "./question.ts";
import { keyOf, webhookSignature } from "./signatures.ts";
import { slackMessage, slackOutcome } from "./slack.ts";
import { teamsMessage, teamsOutcome } from "./teams.ts";
import { webhookMessage, webhookOutcome } from "./webhook.ts";

/** Longest that one message may take, in milliseconds; below the time for which a channel is claimed. */
const SEND_LIMIT_MS = 10_000;
/** An answer is one small object, or the message that Slack repeats. */
const MAX_ANSWER_BYTES = 256 * 1024;
/** A channel may ask for a longer pause, up to this, in milliseconds. */
const RETRY_AFTER_MAX_MS = 600_000;

/** One thing to tell. */
export interface Told {
  readonly approval: StoredApproval;
  /** How it stands, in a word. */
  readonly told: string;
  readonly attempts: number;
  /** Where it was told before. */
  readonly place: MessagePlace | undefined;
  readonly signal: AbortSignal;
}

/**
 * Tells a channel of an approval, once; recorded before anything leaves.
 *
 * @throws {EgressError} where nothing could be sent
 */
export async function deliver(deps: ChannelsDeps, channel: Channel, what: Told): Promise<Sent> {
  const { approval, told } = what;
  const names = secretsOf(channel);
  const event = {
    type: "approval.notify" as const,
    agent: "ephor",
    sub: approval.sub,
    txn: approval.txn,
    resource: approval.resource,
    facts: { approval: approval.id, channel: channel.name, told, attempt: what.attempts + 1, secrets: names },
  };
  const order = { action: "approval.notify" as const, target: approval.id, names, event };
  return await withSecrets(deps, order, (secrets) => sendBy(deps, channel, { ...what, secrets }));
}

function secretsOf(channel: Channel): readonly string[] {
  switch (channel.kind) {
    case "slack":
      return [channel.token];
    case "teams":
      return typeof channel.webhook === "string" ? [] : [channel.webhook.secret];
    case "webhook":
      return [channel.signingSecret];
  }
}

type WithSecrets = Told & { readonly secrets: ReadonlyMap<string, SecretBytes> };

async function sendBy(deps: ChannelsDeps, channel: Channel, what: WithSecrets): Promise<Sent> {
  const { approval, place, secrets } = what;
  const view = await deps.viewOf(approval);
  switch (channel.kind) {
    case "slack": {
      const token = headerText(secrets.get(channel.token));
      if (token === undefined) return malformed;
      const order = slackMessage(channel, questionOf(view), place);
      return await sendOne(deps, channel, { order: bearing(order, token), what, outcome: slackOutcome });
    }
    case "teams": {
      const url = addressOf(channel.webhook, secrets);
      if (url === undefined) return malformed;
      const order = teamsMessage(url, questionOf(view));
      return await sendOne(deps, channel, { order, what, outcome: teamsOutcome });
    }
    case "webhook": {
      const secret = secrets.get(channel.signingSecret);
      const key = secret && keyOf("webhook", secret);
      if (key === undefined) return malformed;
      const order = webhookMessage(channel.url, view, new Date(deps.clock.nowMs()).toISOString());
      try {
        return await sendOne(deps, channel, {
          order: signed(deps, order, { what, key }),
          what,
          outcome: webhookOutcome,
        });
      } finally {
        key.wipe();
      }
    }
  }
}

const malformed: Sent = { kind: "retry", problem: "secret_malformed", afterMs: 0 };

/** The same message tried again has the same id (Standard Webhooks, "webhook-id"). */
function signed({ clock }: ChannelsDeps, order: Outgoing, { what, key }: { what: Told; key: SecretBytes }): Outgoing {
  const id = `${what.approval.id}.${what.told.replace(" ", "_")}`;
  const timestamp = String(clock.now());
  const signature = webhookSignature(key, { id, timestamp, body: order.body });
  return {
    ...order,
    headers: { ...order.headers, "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature },
  };
}

/** The order with a bearer token. */
export function bearing(order: Outgoing, token: string): Outgoing {
  return { ...order, headers: { ...order.headers, authorization: `Bearer ${token}` } };
}

/** A secret that goes into a header. */
export function headerText(secret: SecretBytes | undefined): string | undefined {
  const text = secret?.use((bytes) => Buffer.from(bytes).toString("latin1"));
  return text !== undefined && /^[\x21-\x7e]{1,2048}$/.test(text) ? text : undefined;
}

/** Only what the trust file or the vault says; egress looks at it once more. */
function addressOf(
  webhook: string | { readonly secret: string },
  secrets: ReadonlyMap<string, SecretBytes>,
): string | undefined {
  if (typeof webhook === "string") return webhook;
  const text = headerText(secrets.get(webhook.secret));
  return text !== undefined && URL.canParse(text) && /^https?:/.test(text) ? text : undefined;
}

async function sendOne(
  { egress, clock }: Pick<ChannelsDeps, "egress" | "clock">,
  { internal }: Pick<Channel, "internal">,
  by: { order: Outgoing; what: Told; outcome: typeof slackOutcome },
): Promise<Sent> {
  const answer = await egress.send({
    ...by.order,
    method: "POST",
    internal,
    maxBytes: MAX_ANSWER_BYTES,
    timeoutMs: SEND_LIMIT_MS,
    signal: by.what.signal,
  });
  return by.outcome(answer, retryAfterMs(answer.headers["retry-after"], clock.nowMs()));
}

/** Seconds or a date (RFC 9110 §10.2.3), bounded; 0 for anything else. */
function retryAfterMs(header: string | string[] | undefined, nowMs: number): number {
  if (typeof header !== "string") return 0;
  const ms = /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - nowMs;
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(0, ms), RETRY_AFTER_MAX_MS);
}
