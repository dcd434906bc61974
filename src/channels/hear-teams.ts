import { decideHeard, heardEvent } from "./hear.ts";
import type { HookDeps, Signed } from "./hooks.ts";
import { SIGNED_WITHIN_SECONDS } from "./signatures.ts";
import { readTeamsWord } from "./teams.ts";

const HOW = "Write: approve apr_… REASON, or deny apr_… REASON.";

/** A message that mentions the outgoing webhook. @returns what Teams shows as the answer */
export async function hearTeams(deps: HookDeps, signed: Signed<"teams">): Promise<string | undefined> {
  const word = readTeamsWord(signed.request.body);
  if (word === undefined) {
    await deps.recorder.refused(heardEvent(signed, {}), "hook_malformed");
    return HOW;
  }
  const { tenant, user, atMs, command } = word;
  // Nothing but the body is signed, its time included.
  if (Math.abs(atMs - deps.clock.nowMs()) > SIGNED_WITHIN_SECONDS * 1_000) {
    await deps.recorder.refused(heardEvent(signed, { tenant, user }), "hook_stale");
    return undefined;
  }
  if (command === undefined) return HOW;
  const { approval, decision, reason } = command;
  const operator = deps.trust().operatorByTeams(tenant, user);
  if (operator === undefined) {
    await deps.recorder.refused(heardEvent(signed, { tenant, user, approval }), "operator_unknown");
    return (
      "Nothing was decided: you are no operator of this Ephor. Whoever runs it can make you one, " +
      `with teams: { tenant: ${tenant}, user: ${user} } in your entry of operators.`
    );
  }
  const heard = await decideHeard(deps, signed, {
    operator,
    approval,
    isApproving: decision === "approve",
    reason: reason === "" ? "in Teams" : reason.slice(0, 500),
    isFrom: ({ told }) => told !== null,
    isStill: (trust) => trust.operatorByTeams(tenant, user)?.name === operator.name,
  });
  if (heard === undefined) return undefined;
  if ("refused" in heard) return heard.text;
  return heard.done.state === "pending"
    ? "Noted. Somebody else has to approve it too."
    : `Done: ${approval} is ${heard.done.state}.`;
}
