import { ProblemError } from "../api/problem.ts";
import { AccessDeniedError } from "../core/oauth/errors.ts";
import { decideHeard, heardEvent } from "./hear.ts";
import type { HookDeps, Signed } from "./hooks.ts";
import { readWebhookWord } from "./webhook.ts";

/**
 * A decision that whoever holds the channel's secret brings in an operator's name.
 *
 * @throws {ProblemError | AccessDeniedError} recorded
 */
export async function hearWebhook(
  deps: HookDeps,
  signed: Signed<"webhook">,
): Promise<{ approval: string; status: string } | undefined> {
  const { channel, request } = signed;
  const word = readWebhookWord(request.body);
  if (word === undefined) {
    await deps.recorder.refused(heardEvent(signed, {}), "hook_malformed");
    throw new ProblemError("malformed", {
      detail: "It takes {approval, decision, reason, operator} and nothing else.",
    });
  }
  const { approval, decision, reason } = word;
  const operator = channel.operators.includes(word.operator) ? deps.trust().operator(word.operator) : undefined;
  if (operator === undefined) {
    const facts = { operator: word.operator, approval };
    await deps.recorder.refused(heardEvent(signed, facts), "operator_unknown");
    throw new AccessDeniedError({ reason: "operator_unknown" });
  }
  const heard = await decideHeard(deps, signed, {
    operator,
    approval,
    isApproving: decision === "approve",
    reason,
    // One that decides before it says that it has the question was asked all the same.
    isFrom: () => true,
    isStill(trust) {
      const now = trust.channel(channel.name);
      return now?.kind === "webhook" && now.operators.includes(operator.name);
    },
  });
  if (heard === undefined) return undefined;
  if ("refused" in heard) throw heard.error;
  return { approval, status: heard.done.state };
}
