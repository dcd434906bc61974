import type { AuditPage } from "../../api/audit.ts";
import type { Reason } from "../../core/oauth/reasons.ts";
import type { ApiClient } from "../../sdk/client/api.ts";
import type { Answer, Cast } from "./cast.ts";
import { DemoFailure, type Stage } from "./stage.ts";

/** What the story is told with. */
export interface Scene {
  readonly stage: Stage;
  readonly cast: Cast;
  readonly url: string;
  /** As the operator. */
  readonly api: ApiClient;
}

/** An exchange that succeeded. */
export type Granted = Extract<Answer, { ok: true }>;

/** An exchange that must succeed. Prints what it says, never the token. */
export async function ask(
  { stage, cast }: Pick<Scene, "stage" | "cast">,
  agent: string,
  parameters: Record<string, string>,
): Promise<Granted> {
  stage.does(agent, `POST /token  ${shownParameters(parameters)}`);
  const answer = await cast.exchange(agent, parameters);
  if (!answer.ok) throw new DemoFailure(`${agent} was refused: ${answer.status} ${answer.error}`);
  const { sub, aud, act, scope, txn } = answer.claims;
  stage.shows(
    JSON.stringify({ sub, aud, ...(act === undefined ? {} : { act }), scope, txn, expires_in: answer.seconds }),
  );
  return answer;
}

/** An exchange that must be refused. Shows both faces: what the agent is told, and what the record says. */
export async function refusal(
  { stage, cast, api }: Scene,
  agent: string,
  expected: { parameters: Record<string, string>; error: string; reason: Reason },
): Promise<void> {
  stage.does(agent, `POST /token  ${shownParameters(expected.parameters)}`);
  const answer = await cast.exchange(agent, expected.parameters);
  if (answer.ok) throw new DemoFailure(`${agent} got a token that it must not get`);
  stage.claim(`refused: ${answer.status} ${answer.error}`, answer.error === expected.error);
  const { events } = await api.get<AuditPage>("/v1/audit", { decision: "refused", limit: 1 });
  stage.claim(`the record says why, for the operator alone: ${expected.reason}`, events[0]?.reason === expected.reason);
}

/** Everything but tokens. */
function shownParameters(parameters: Record<string, string>): string {
  const target = parameters["resource"] ?? "";
  const kind = (parameters["subject_token_type"] ?? "").split(":").at(-1) ?? "";
  const actor = parameters["actor_token"] === undefined ? "" : "  actor_token=(pod)";
  return `subject_token=(${kind})${actor}  resource=${target}  scope=${parameters["scope"] ?? ""}`;
}

/** The actors of a token, outermost first. */
export function actorsOf({ claims }: Granted): string {
  const names: string[] = [];
  for (
    let act = claims["act"] as { sub?: string; act?: unknown } | undefined;
    act !== undefined;
    act = act.act as typeof act
  ) {
    names.push(String(act.sub));
  }
  return names.join(" < ");
}
