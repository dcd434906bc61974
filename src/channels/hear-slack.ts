import type { SlackChannel } from "../core/trust/model.ts";
import { bearing, headerText } from "./deliver.ts";
import { decideHeard, heardEvent } from "./hear.ts";
import type { HookDeps, Signed } from "./hooks.ts";
import { withSecrets } from "./opened.ts";
import { readSlackClick, slackWhisper, type SlackClick } from "./slack.ts";

/** Longest that a whisper may take, in milliseconds. */
const WHISPER_LIMIT_MS = 5_000;
const MAX_ANSWER_BYTES = 16 * 1024;

/** A click: Slack itself is told only that it was heard, whoever clicked is told more, in a whisper. */
export async function hearSlack(deps: HookDeps, signed: Signed<"slack">): Promise<"heard" | undefined> {
  const { channel, request } = signed;
  const click = readSlackClick(request.body);
  if (click === undefined) {
    await deps.recorder.refused(heardEvent(signed, {}), "hook_malformed");
    return "heard";
  }
  const { team, user, place, decision, approval } = click;
  // The button that leads to the approval's page.
  if (decision === undefined) return "heard";
  const operator = deps.trust().operatorBySlack(team, user);
  if (operator === undefined) {
    const facts = { team, user, approval: approval.slice(0, 64) };
    await deps.recorder.refused(heardEvent(signed, facts), "operator_unknown");
    whisper(deps, { channel, click, requestId: request.requestId }, unknownText(team, user));
    return "heard";
  }
  const heard = await decideHeard(deps, signed, {
    operator,
    approval,
    isApproving: decision === "approve",
    reason: "in Slack",
    isFrom: (message) => message.place?.["channel"] === place.channel && message.place["ts"] === place.ts,
    isStill: (trust) => trust.operatorBySlack(team, user)?.name === operator.name,
  });
  if (heard === undefined) return undefined;
  if ("refused" in heard) whisper(deps, { channel, click, requestId: request.requestId }, heard.text);
  return "heard";
}

function unknownText(team: string, user: string): string {
  return (
    "Nothing was decided: you are no operator of this Ephor. Whoever runs it can make you one, " +
    `with slack: { team: ${team}, user: ${user} } in your entry of operators.`
  );
}

/** Said once, to one person; lost where Slack does not take it. */
function whisper(
  deps: HookDeps,
  { channel, click, requestId }: { channel: SlackChannel; click: SlackClick; requestId: string },
  text: string,
): void {
  deps.behind(async () => {
    const facts = { channel: channel.name, whisper: true, secrets: [channel.token] };
    const event = { type: "approval.notify" as const, agent: "ephor", requestId, facts };
    const order = { action: "approval.notify" as const, target: channel.name, names: [channel.token], event };
    await withSecrets(deps, order, async (secrets) => {
      const token = headerText(secrets.get(channel.token));
      if (token === undefined) return;
      await deps.egress.send({
        ...bearing(slackWhisper(channel, { channel: click.place.channel, user: click.user, text }), token),
        method: "POST",
        internal: channel.internal,
        maxBytes: MAX_ANSWER_BYTES,
        timeoutMs: WHISPER_LIMIT_MS,
      });
    });
  });
}
