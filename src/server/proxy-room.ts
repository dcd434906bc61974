import { createApprovals } from "../approvals/approvals.ts";
import { createWaiting, type Waiting } from "../approvals/waiting.ts";
import type { BrokerDeps } from "../broker/deps.ts";
import { createInjectedCredentials } from "../broker/injected.ts";
import type { Rooms } from "../http/rooms.ts";
import type { ProxyApprovals } from "../proxy/approved.ts";
import { createAdmissions } from "../proxy/admission.ts";
import { createBreakers } from "../proxy/breakers.ts";
import { createCallCounts } from "../proxy/call-counts.ts";
import { httpCall } from "../proxy/http-call.ts";
import { mcpCall } from "../proxy/mcp/mcp-call.ts";
import type { McpDeps } from "../proxy/mcp/turn.ts";
import { createLocalServers } from "../proxy/mcp/stdio-servers.ts";
import { createSessions } from "../proxy/mcp/sessions.ts";
import { createToolPins, type ToolPins } from "../proxy/mcp/tool-pins.ts";
import { tokenHolder } from "../sts/agent-identity.ts";
import type { StsDeps } from "../sts/deps.ts";
import type { LiveTokens } from "../sts/live-tokens.ts";
import type { Programs } from "../system/programs.ts";
import { createUpstreams } from "../system/egress-upstreams.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import { acceptedHash, approvalsRoom } from "./approvals-room.ts";
import { withCanaryUpstream } from "./canary-upstream.ts";
import { openChannels } from "./channels.ts";
import type { Ground } from "./ground.ts";
import { toolRoom } from "./tool-room.ts";

/** The proxy, the approvals that its calls wait for, and the tools that it pins. */
export function proxiedRooms(
  ground: Ground,
  at: { sts: StsDeps; live: LiveTokens; broker: BrokerDeps; programs: Programs; waiting: Waiting },
): Pick<Rooms, "proxy" | "approvals" | "tools" | "hooks"> {
  const { db, clock, envelope, log } = ground;
  // Known below: channels are told of approvals, and ask about them.
  let changed = (_id: string): void => {};
  const { trust, recorder } = at.sts;
  const toolPins = createToolPins({ db, clock, recorder });
  const { secrets } = at.broker;
  const toolHash = acceptedHash(toolPins, trust);
  // A hint: whoever waits looks by himself soon.
  const announce = (id: string): void =>
    void at.waiting.announce(id).catch((err: unknown) => log.warn("approval_not_announced", { err }));
  const approvals = createApprovals({
    db,
    clock,
    trust,
    recorder,
    secrets,
    envelope,
    toolHash,
    announce,
    changed: (id) => changed(id),
  });
  const channels = openChannels(ground, { sts: at.sts, broker: at.broker, approvals });
  changed = channels.changed;
  return {
    proxy: proxyRoom(ground, { ...at, toolPins, approvals }),
    approvals: approvalsRoom(approvals, { issuer: at.sts.issuer, trust, toldOf: channels.toldOf }),
    hooks: channels.hooks,
    tools: toolRoom(toolPins, trust, recorder),
  };
}

/** Calls that wait for an approval. */
export function openWaiting({ db, clock, streams, lifecycle, log, metrics }: Ground, trust: () => TrustIndex): Waiting {
  const waiting = createWaiting({ db, clock, trust, streams, log, metrics });
  // Who waits is told so while there is still somebody to tell it.
  lifecycle.onStop("accepting", "waiting calls", waiting.close);
  return waiting;
}

/** The identity-aware proxy, as the edge calls it. */
function proxyRoom(
  ground: Ground,
  at: {
    sts: StsDeps;
    live: LiveTokens;
    broker: BrokerDeps;
    toolPins: ToolPins;
    programs: Programs;
    approvals: ProxyApprovals;
    waiting: Waiting;
  },
): Rooms["proxy"] {
  const { sts, live, broker, toolPins, programs, approvals, waiting } = at;
  const upstreams = withCanaryUpstream(createUpstreams({ resolve: ground.resolve }));
  ground.lifecycle.onStop("background", "upstreams", upstreams.close);
  const { trust, clock, authorizer, recorder, places, log, issuer } = sts;
  const local = createLocalServers({ trust, clock, streams: ground.streams, programs, log, metrics: ground.metrics });
  ground.lifecycle.onStop("background", "local servers", local.close);
  const { metrics } = ground;
  metrics.nameResources((name) => trust().resourceByName(name) !== undefined);
  const breakers = createBreakers({ clock, log, metrics });
  const deps: McpDeps = {
    issuer,
    trust,
    clock,
    authorizer,
    recorder,
    places,
    secrets: broker.secrets,
    envelope: ground.envelope,
    injected: createInjectedCredentials({ ...broker, streams: ground.streams }),
    streams: ground.streams,
    upstreams,
    egress: broker.egress,
    admissions: createAdmissions({ clock, breakers, counts: createCallCounts({ db: ground.db, clock }) }),
    breakers,
    log,
    metrics: ground.metrics,
    approvals,
    waiting,
    attestor: ground.keys.attestor,
    toolPins,
    local,
    sessions: createSessions(() => ground.keys.nonceSecret()),
    holder: (presented, audience) => tokenHolder(sts, live, { presented, audience, isGateNext: true }),
    stillLives: async ({ token }) => (await live.isLive(token.claims.jti)).live,
  };
  return {
    http: (request) => httpCall(deps, request),
    mcp: (request) => mcpCall(deps, request),
  };
}
