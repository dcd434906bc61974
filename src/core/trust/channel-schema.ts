import { z } from "zod";
import { TRUST_LIMITS } from "./limits.ts";
import type { Channel } from "./model.ts";
import { isLoopbackUrl, nameValue, urlValue } from "./values.ts";

/** Slack's API; GovSlack and stand-ins have their own. */
const SLACK_API = "https://slack.com/api";

const webUrl = (query: boolean) => urlValue({ schemes: ["https", "http"], query });

/** Id of a channel of Slack: public, private, or a conversation of several. */
const slackConversation = z.string().regex(/^[CGD][A-Z0-9]{2,20}$/, {
  error: "must be the id of a channel, like C0123ABCD",
});

const slackValue = z.strictObject({
  channel: slackConversation,
  token: nameValue,
  signing_secret: nameValue,
  api: webUrl(false).optional(),
});

const teamsValue = z.strictObject({
  /** The address is as good as a password where it has its signature in it: then it belongs into the vault. */
  webhook: z.union([webUrl(true), z.strictObject({ secret: nameValue })]),
  /** Without it nothing is decided there. */
  secret: nameValue.optional(),
});

const webhookValue = z.strictObject({
  url: webUrl(true),
  secret: nameValue,
  /** For whom its holder speaks; without it nothing is decided there. */
  operators: z
    .array(nameValue)
    .min(1)
    .max(TRUST_LIMITS.parties)
    .refine((list) => new Set(list).size === list.length, { error: "names something twice" })
    .optional(),
});

/** A channel as the trust file and the API write it. */
export const channelWire = z
  .strictObject({
    slack: slackValue.optional(),
    teams: teamsValue.optional(),
    webhook: webhookValue.optional(),
    internal: z.boolean().optional(),
  })
  .superRefine((wire, ctx) => {
    const kinds = (["slack", "teams", "webhook"] as const).filter((kind) => wire[kind] !== undefined);
    if (kinds.length !== 1) {
      ctx.addIssue({
        code: "custom",
        message: kinds.length === 0 ? "is of no kind" : "is of several kinds",
        path: [],
        params: { mend: "give it exactly one of slack, teams and webhook" },
      });
    }
    const urls: [string[], unknown][] = [
      [["slack", "api"], wire.slack?.api],
      [["teams", "webhook"], wire.teams?.webhook],
      [["webhook", "url"], wire.webhook?.url],
    ];
    for (const [path, url] of urls) {
      if (typeof url === "string" && url.startsWith("http:") && !(wire.internal === true && isLoopbackUrl(url)))
        ctx.addIssue({ code: "custom", message: "must be https", path });
    }
  });

/** Makes the model of a channel. */
export function toChannel(name: string, wire: z.infer<typeof channelWire>): Channel {
  const common = { name, internal: wire.internal ?? false };
  const { slack, teams, webhook } = wire;
  if (slack !== undefined) {
    const { channel, token, signing_secret: signingSecret, api = SLACK_API } = slack;
    return { ...common, kind: "slack", channel, token, signingSecret, api: api.replace(/\/+$/, "") };
  }
  if (teams !== undefined)
    return {
      ...common,
      kind: "teams",
      webhook: teams.webhook,
      ...(teams.secret !== undefined && { signingSecret: teams.secret }),
    };
  if (webhook === undefined) throw new TypeError("a channel without a kind passed its schema");
  const { url, secret, operators } = webhook;
  return { ...common, kind: "webhook", url, signingSecret: secret, operators: operators ?? [] };
}
