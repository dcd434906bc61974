import { z } from "zod";
import { HOOK_MAX_BYTES, hookDecided, hookDecision, hookParams, teamsAnswer } from "../../api/hooks.ts";
import { ok, route, type Answer, type Incoming, type Route } from "../route.ts";

const UNSIGNED = {
  description: "Not signed as it must be, too old, or sent before; nothing else is told.",
  isBare: true,
};
const BAD = { description: "No approval by this name was asked for at this channel." };

type HookCall = Pick<Incoming<z.output<typeof hookParams>, unknown, string, undefined>, "params" | "body" | "request">;

const requestOf = ({ params, body, request }: HookCall) => {
  const { requestId, remoteAddress, header } = request;
  return { channel: params.channel, body, header, requestId, remoteAddress };
};

const unsigned: Answer = { status: 401 };

/** Where channels send what people say there. The body is read as it came, for its bytes are what is signed. */
export const hookRoutes: readonly Route[] = [
  route({
    method: "POST",
    path: "/hooks/slack/{channel}",
    operationId: "hearSlack",
    summary: "Takes a click of an approval's button in Slack",
    description:
      "The app's Interactivity Request URL. Signed by the app's signing secret; counts for the operator whose `slack` is who clicked, where the message asked. What came of it is told in Slack.",
    tag: "Approvals",
    auth: "channel",
    params: hookParams,
    body: z.string().describe("`payload=` and the interaction, form-encoded."),
    textType: "application/x-www-form-urlencoded",
    maxBodyBytes: HOOK_MAX_BYTES,
    responses: { 200: { description: "Heard." }, 401: UNSIGNED },
    handle: async ({ rooms, ...call }) =>
      (await rooms.hooks.slack(requestOf(call))) === undefined ? unsigned : { status: 200 },
  }),
  route({
    method: "POST",
    path: "/hooks/teams/{channel}",
    operationId: "hearTeams",
    summary: "Takes a word to Ephor's outgoing webhook in Microsoft Teams",
    description:
      "`approve apr_… REASON` or `deny apr_… REASON`, signed by the outgoing webhook's token; counts for the operator whose `teams` is who wrote.",
    tag: "Approvals",
    auth: "channel",
    params: hookParams,
    body: z.string().describe("The activity, JSON."),
    textType: "application/json",
    maxBodyBytes: HOOK_MAX_BYTES,
    responses: { 200: { description: "What came of it.", body: teamsAnswer }, 401: UNSIGNED },
    async handle({ rooms, ...call }) {
      const text = await rooms.hooks.teams(requestOf(call));
      return text === undefined ? unsigned : ok({ type: "message", text });
    },
  }),
  route({
    method: "POST",
    path: "/hooks/webhook/{channel}",
    operationId: "hearWebhook",
    summary: "Takes a decision, signed by Standard Webhooks",
    description:
      "Whoever holds the channel's secret speaks for the operators that the channel names, and for nobody else. The same signed request works once.",
    tag: "Approvals",
    auth: "channel",
    params: hookParams,
    body: z.string(),
    bodyDocument: hookDecision,
    textType: "application/json",
    maxBodyBytes: HOOK_MAX_BYTES,
    responses: {
      200: { description: "Decided.", body: hookDecided },
      400: { description: "No such message." },
      401: UNSIGNED,
      403: {
        description:
          "The channel does not speak for this operator, the grant asks somebody else, or he is the one who asks.",
      },
      404: BAD,
      409: { description: "Decided already, used, expired, or void." },
      429: { description: "Too many requests of this network." },
    },
    async handle({ rooms, ...call }) {
      const decided = await rooms.hooks.webhook(requestOf(call));
      return decided === undefined ? unsigned : ok(decided);
    },
  }),
];
