import { InvalidRequestError, InvalidScopeError } from "../core/oauth/errors.ts";
import { splitScope } from "../core/oauth/scope.ts";
import type { Ask, Binding } from "../authz/ask.ts";
import { ulid } from "../system/random.ts";
import { faced, singleUseKey, type ActingAgent } from "./acting-agent.ts";
import type { AgentIdentity } from "./agent-identity.ts";
import type { StsDeps } from "./deps.ts";
import { forHuman, forItself, recheckSubject, type Origin } from "./origin.ts";
import { joined, positionOf } from "./position.ts";
import { refused } from "./token-endpoint.ts";
import type { Trail } from "./trail.ts";

/** What an agent asks for when it opens a task. */
export interface OpenTask {
  readonly purpose: string;
  readonly deadline?: number | undefined;
  readonly scopes?: readonly string[] | undefined;
  readonly subjectToken?: string | undefined;
  readonly subjectTokenType?: string | undefined;
}

/** A task that is open. */
export interface OpenedTask {
  readonly txn: string;
  readonly deadline: number;
  readonly scopes: readonly string[] | null;
}

/**
 * `POST /v1/tasks`: opens a task with a deadline and a ceiling of its own, through the gate like every release.
 *
 * @throws {OAuthError} recorded
 */
export async function openTask(
  deps: StsDeps,
  identity: AgentIdentity,
  order: OpenTask,
  request: { requestId: string; remoteAddress: string; traceId: string | undefined },
): Promise<OpenedTask> {
  const acting: ActingAgent = identity.acting ?? ofToken(identity);
  const trail: Trail = { type: "task.open", acting, ...request };
  try {
    const origin = await originOf(deps, acting, order);
    const deadline = deadlineOf(deps, origin, order);
    const ceiling = ceilingOf(deps, order);
    trail.sub = origin.subject.sub;
    const txn = ulid(deps.clock.nowMs());
    trail.txn = txn;
    const result = await deps.authorizer.authorize(() => {
      acting.recheck();
      recheckSubject(deps.trust(), origin, origin.subject);
      return {
        ask: askOf(deps, identity, { acting, origin: { ...origin, deadline }, order, ceiling, txn, request }),
        value: undefined,
      };
    });
    if (result.outcome === "granted") return { txn, deadline, scopes: ceiling };
    trail.recorded = true;
    throw new InvalidRequestError({ reason: result.outcome === "continue" ? "internal" : result.outcome });
  } catch (error) {
    throw await refused(deps, trail, error);
  }
}

/** A token of ours proved the agent; there is nothing of its platform to judge again. */
function ofToken(identity: AgentIdentity): ActingAgent {
  return { agent: identity.agent, method: "workload", replay: [], identities: [], recheck: () => {} };
}

async function originOf(deps: StsDeps, acting: ActingAgent, order: OpenTask): Promise<Origin & { kind: "open" }> {
  if (order.subjectToken === undefined) return forItself(deps, acting, acting.workload);
  try {
    const verified = await deps.federation.verify(order.subjectToken, {
      use: "subject",
      tokenType: order.subjectTokenType,
    });
    if (verified.identifies !== "humans") throw new InvalidRequestError({ reason: "subject_not_human" });
    return forHuman(deps, acting, verified);
  } catch (error) {
    throw faced(error);
  }
}

function deadlineOf(deps: StsDeps, origin: Origin & { kind: "open" }, order: OpenTask): number {
  const now = deps.clock.now();
  const wanted = order.deadline ?? now + deps.taskSeconds.default;
  if (wanted <= now || wanted > now + deps.taskSeconds.max) {
    throw new InvalidRequestError({
      reason: "parameter_invalid",
      help: "deadline must be ahead, and no further than tasks.max.",
    });
  }
  // `origin.deadline` is the default, cut by the human's sign-in; only that cut binds a longer wish.
  const cut = origin.deadline < now + deps.taskSeconds.default;
  return cut ? Math.min(wanted, origin.deadline) : wanted;
}

function ceilingOf(deps: StsDeps, order: OpenTask): readonly string[] | null {
  if (order.scopes === undefined) return null;
  for (const scope of order.scopes) {
    const { resource, action } = splitScope(scope);
    if (action === undefined || !deps.trust().resourceByName(resource))
      throw new InvalidScopeError({ reason: "scope_unknown" });
  }
  return [...new Set(order.scopes)];
}

function askOf(
  deps: StsDeps,
  identity: AgentIdentity,
  at: {
    acting: ActingAgent;
    origin: Origin & { kind: "open" };
    order: OpenTask;
    ceiling: readonly string[] | null;
    txn: string;
    request: { requestId: string; traceId: string | undefined };
  },
): Ask {
  const { acting, origin, order, ceiling, txn, request } = at;
  const position = positionOf(origin, acting, { txn, now: deps.clock.now(), purpose: order.purpose });
  if (!position.newTask || !position.newNode) throw new Error("an opening makes a task and a node");
  const kill = joined(identity.kill, position.kill.keys);
  const single = origin.subject.type === "human" ? singleUseKey(acting, undefined, txn) : undefined;
  const binding = bindingOf(origin, txn);
  return {
    action: "task.open",
    target: txn,
    actor: acting.agent.name,
    trustVersion: deps.trust().version,
    kill,
    event: {
      type: "task.open",
      agent: acting.agent.name,
      sub: position.subject.sub,
      txn,
      traceId: request.traceId,
      requestId: request.requestId,
      facts: {
        path: position.path,
        node: txn,
        purpose: order.purpose,
        deadline: origin.deadline,
        scope: ceiling?.join(" "),
        owner: acting.agent.owner,
        client: { method: acting.method, issuer: acting.workload?.issuer.name, workload: acting.workload?.workloadId },
        trust_version: deps.trust().version,
      },
    },
    replay: [
      ...acting.replay,
      ...(identity.proof ? [{ key: identity.proof.replayKey, exp: identity.proof.replayUntil }] : []),
      ...(single ? [single] : []),
    ],
    ...(binding === undefined ? {} : { binding }),
    newTask: { ...position.newTask, ceiling, deadline: origin.deadline },
    newNode: { ...position.newNode, kill_keys: kill.keys, kill_epochs: kill.epochs },
  };
}

/** A human's token belongs to the agent; a workload's may open several tasks, unless it is for single use. */
function bindingOf(origin: Origin & { kind: "open" }, txn: string): Binding | undefined {
  const { subjectKey, subject } = origin;
  if (!subjectKey || (subject.type === "agent" && !subjectKey.singleUse)) return undefined;
  return { key: subjectKey.key, node: txn, opens: true, singleUse: subjectKey.singleUse, exp: subjectKey.exp };
}
