import { InvalidRequestError, InvalidScopeError } from "../core/oauth/errors.ts";
import { splitScope } from "../core/oauth/scope.ts";
import { standingProblem } from "../core/grants/decide.ts";
import type { Ask, Binding } from "../authz/ask.ts";
import { ulid } from "../system/random.ts";
import { faced, singleUseKeys, type ActingAgent } from "./acting-agent.ts";
import { spendsOf, type AgentIdentity } from "./agent-identity.ts";
import type { StsDeps } from "./deps.ts";
import { forHuman, forItself, humanDeadline, recheckSubject, type Origin } from "./origin.ts";
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
  const acting: ActingAgent = identity.acting ?? ofToken(deps, identity);
  const trail: Trail = { type: "task.open", acting, ...request };
  try {
    const origin = await originOf(deps, acting, { order, wanted: wantedDeadline(deps, order) });
    const { deadline } = origin;
    const ceiling = ceilingOf(deps, order);
    trail.sub = origin.subject.sub;
    const txn = ulid(deps.clock.nowMs());
    trail.txn = txn;
    const result = await deps.authorizer.authorize(() => {
      acting.recheck();
      recheckSubject(deps.trust(), { origin, subject: origin.subject, agent: acting.agent.name });
      return {
        ask: askOf(deps, identity, { acting, origin, order, ceiling, txn, request }),
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

/** A token of ours proved the agent; of its platform there is nothing to judge again, of itself whether it may act. */
function ofToken(deps: StsDeps, { agent }: AgentIdentity): ActingAgent {
  const recheck = (): void => {
    const current = deps.trust().agent(agent.name);
    if (current?.owner !== agent.owner) throw new InvalidRequestError({ reason: "client_unknown", agent: agent.name });
    const problem = standingProblem(current, deps.clock.now());
    if (problem !== undefined) throw new InvalidRequestError({ reason: problem, agent: agent.name });
  };
  return { agent, method: "workload", workloads: [], replay: [], identities: [], recheck };
}

async function originOf(
  deps: StsDeps,
  acting: ActingAgent,
  { order, wanted }: { order: OpenTask; wanted: number },
): Promise<Origin & { kind: "open" }> {
  if (order.subjectToken === undefined) return { ...forItself(deps, acting, acting.workload), deadline: wanted };
  try {
    const verified = await deps.federation.verify(order.subjectToken, {
      use: "subject",
      tokenType: order.subjectTokenType,
    });
    if (verified.identifies !== "humans") throw new InvalidRequestError({ reason: "subject_not_human" });
    // The wish too is cut by the age of the human's sign-in.
    return { ...forHuman(deps, acting, verified), deadline: humanDeadline(deps, verified, wanted) };
  } catch (error) {
    throw faced(error);
  }
}

function wantedDeadline(deps: StsDeps, order: OpenTask): number {
  const now = deps.clock.now();
  const wanted = order.deadline ?? now + deps.taskSeconds.default;
  if (wanted <= now || wanted > now + deps.taskSeconds.max) {
    throw new InvalidRequestError({
      reason: "parameter_invalid",
      help: "deadline must be ahead, and no further than tasks.max.",
    });
  }
  return wanted;
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
    replay: [...spendsOf(identity), ...singleUseKeys(acting, undefined, txn)],
    ...(binding === undefined ? {} : { binding }),
    // A token of ours counts as long as the task and the place that it came from are open.
    ...(identity.token && { task: { txn: identity.token.state.txn, nodes: [identity.token.state.node] } }),
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
