import type { Streams } from "../authz/streams.ts";
import { readTraceparent } from "../core/oauth/traceparent.ts";
import type { AgentCaller, Credentials, RequestFacts, Rooms } from "../http/rooms.ts";
import {
  agentIdentity,
  authorizeAtEphor,
  spendProofs,
  tokenStillLives,
  type AgentIdentity,
  type LetIn,
  type RequestTrace,
  type Presented,
} from "../sts/agent-identity.ts";
import type { StsDeps } from "../sts/deps.ts";
import type { LiveTokens } from "../sts/live-tokens.ts";
import { openTask } from "../sts/open-task.ts";
import { completeTask } from "../tasks/complete.ts";
import { readTask } from "../tasks/read.ts";

/**
 * Agents at Ephor's own API, and their tasks, as the routes call them.
 *
 * @param of.ended called after a task or a part of one ended
 */
export function taskRooms(
  deps: StsDeps,
  live: LiveTokens,
  { streams, ended }: { streams: Streams; ended: () => void },
): Pick<Rooms, "agents" | "accessTokens" | "tasks" | "tokenStillLives"> {
  // What a caller proved stays beside the plain facts that the edge hands on.
  const identities = new WeakMap<AgentCaller, AgentIdentity>();
  const callerOf = (identity: AgentIdentity): AgentCaller => {
    const { token } = identity;
    const caller: AgentCaller = {
      kind: "agent",
      agent: identity.agent.name,
      ...(token && { token: callerToken(token) }),
    };
    identities.set(caller, identity);
    return caller;
  };
  const traced = (caller: AgentCaller, facts: RequestFacts): { identity: AgentIdentity; request: RequestTrace } => {
    const identity = identities.get(caller);
    if (!identity) throw new Error("the caller was not authenticated by this room");
    const { requestId, remoteAddress, method, route } = facts;
    return { identity, request: { requestId, remoteAddress, route: `${method} ${route}` } };
  };
  const spend = async (caller: AgentCaller, facts: RequestFacts): Promise<void> => {
    const { identity, request } = traced(caller, facts);
    await spendProofs(deps, identity, request);
  };

  return {
    agents: {
      authenticate: async (credentials, request) =>
        callerOf(await agentIdentity(deps, live, presented(credentials, request))),
    },
    accessTokens: accessTokenRooms(deps, live, { streams, callerOf }),
    tokenStillLives: (caller, request) => tokenStillLives(deps, live, traced(caller, request)),
    tasks: {
      async open(order, { caller, request }) {
        const identity = identities.get(caller);
        if (!identity) throw new Error("the caller was not authenticated by this room");
        const { requestId, remoteAddress, traceparent } = request;
        const opened = await openTask(
          deps,
          identity,
          {
            purpose: order.purpose,
            deadline: order.deadline,
            scopes: order.scopes,
            subjectToken: order.subject_token,
            subjectTokenType: order.subject_token_type,
          },
          { requestId, remoteAddress, traceId: readTraceparent(traceparent)?.traceId },
        );
        return { ...opened, scopes: opened.scopes === null ? null : [...opened.scopes] };
      },
      async read(txn, { caller, request }) {
        await spend(caller, request);
        return readTask(deps, { txn, reader: { agent: caller.agent }, requestId: request.requestId });
      },
      async complete(txn, { caller, request }) {
        await spend(caller, request);
        const completed = await completeTask(deps, { txn, agent: caller.agent, requestId: request.requestId });
        ended();
        return completed;
      },
    },
  };
}

function callerToken({ claims, state }: NonNullable<AgentIdentity["token"]>): NonNullable<AgentCaller["token"]> {
  const { jti, txn, sub, scope } = claims;
  return { jti, txn, sub, scopes: scope.split(" "), kill: { keys: state.killKeys, epochs: state.killEpochs } };
}

/** What came with a request, and where it went. */
function presented(credentials: Credentials, request: RequestFacts): Presented {
  return {
    ...credentials,
    requestId: request.requestId,
    route: `${request.method} ${request.route}`,
    remoteAddress: request.remoteAddress,
  };
}

/** Agents that are let in by a token of ours, and for how long they may be told what they ask. */
function accessTokenRooms(
  deps: StsDeps,
  live: LiveTokens,
  { streams, callerOf }: { streams: Streams; callerOf: (identity: AgentIdentity) => AgentCaller },
): Rooms["accessTokens"] {
  const letIn = new WeakMap<AgentCaller, LetIn>();
  return {
    async authenticate(credentials, action, request) {
      const entered = await authorizeAtEphor(deps, live, {
        presented: presented(credentials, request),
        action,
        route: `${request.method} ${request.route}`,
      });
      const caller = callerOf(entered.identity);
      letIn.set(caller, entered);
      return caller;
    },
    follow(caller, onCut) {
      const entered = letIn.get(caller);
      if (entered === undefined) throw new Error("the caller was not let in by this room");
      const { identity, permit, epoch } = entered;
      // What was asked in time may take long to tell: only a kill ends it, or that this replica hears of none.
      const exp = Number.POSITIVE_INFINITY;
      const stream = streams.open({ keys: identity.kill.keys, epoch, exp, onCut });
      // A kill that was heard of since the gate let it in found no stream.
      if (!permit.isLive(deps.clock.monotonicMs())) onCut();
      return () => stream.close();
    },
  };
}
