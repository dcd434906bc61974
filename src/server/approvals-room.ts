import type { ApprovalView } from "../api/approvals.ts";
import type { Approvals } from "../approvals/approvals.ts";
import type { Channels } from "../channels/channels.ts";
import type { Decider } from "../approvals/deciders.ts";
import { approvalUri, type Asking, type StoredApproval } from "../approvals/approval.ts";
import { deathKeys } from "../core/kill/keys.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Caller, Rooms } from "../http/rooms.ts";
import { toolServerOf, type ToolPins } from "../proxy/mcp/tool-pins.ts";
import { instantOf } from "./wire.ts";

/** Of a page, unless the query says otherwise. */
const DEFAULT_PAGE = 50;

/** Approvals, as the routes call them. */
export function approvalsRoom(
  approvals: Approvals,
  at: { issuer: string; trust: () => TrustIndex; toldOf: Channels["toldOf"] },
): Rooms["approvals"] {
  const { issuer, trust, toldOf } = at;
  const factsOf = (of: StoredApproval): Facts => factsAt(of, issuer, trust());
  const viewOf = async (of: StoredApproval): Promise<ApprovalView> => await approvalView(approvals, of, at);
  return {
    async list({ status = "pending", before, limit = DEFAULT_PAGE, txn }, { caller }) {
      const asking = askingOf(caller, trust());
      const found = await approvals.list({ status, before, limit, asking, txn });
      const items = found.items.map(factsOf);
      return { items, ...(found.next !== undefined && { next: found.next }) };
    },
    async read(id, { caller }) {
      const found = await approvals.read(id);
      if (found === undefined || !isShownTo(found, askingOf(caller, trust()))) return undefined;
      return { ...(await viewOf(found)), channels: [...(await toldOf(id))] };
    },
    async decide({ id, decision, reason }, { caller, request }) {
      const { requestId } = request;
      const order = { id, decider: deciderOf(caller), isApproving: decision === "approve", reason, requestId };
      const found = await approvals.decide(order);
      return found && (await viewOf(found));
    },
  };
}

function deciderOf(caller: Caller): Decider {
  if (caller.kind === "operator") return { kind: "operator", id: caller.id };
  if (caller.kind === "person") {
    const { operator, sub, authTime } = caller;
    return { kind: "person", operator, sub, authTime, via: "console" };
  }
  // The route lets an agent in by a token of ours only.
  const { agent, token } = caller;
  // Its token may be given back when it has decided: the decision hangs on its place.
  const own = token && deathKeys.jti(token.jti);
  const killKeys = token?.kill.keys.filter((key) => key !== own) ?? [];
  return { kind: "agent", agent, sub: token?.sub ?? "", txn: token?.txn ?? "", killKeys };
}

/** Whose approvals somebody sees: all, who may deny all; else those that ask this agent, or this human about his own. */
function askingOf(caller: Caller, trust: TrustIndex): Asking | undefined {
  if (caller.kind === "operator") return undefined;
  if (caller.kind === "agent") return { agent: caller.agent };
  const operator = caller.operator === undefined ? undefined : trust.operator(caller.operator);
  return operator?.roles.includes("approve") === true ? undefined : { human: caller.sub };
}

/** Arguments are shown to whoever is asked. */
function isShownTo({ needs, sub }: StoredApproval, asking: Asking | undefined): boolean {
  if (asking === undefined) return true;
  const approvers = needs.flatMap(({ by }) => by);
  if ("human" in asking) return sub === asking.human && approvers.includes("self");
  return approvers.some((one) => typeof one === "object" && "agent" in one && one.agent === asking.agent);
}

type Facts = Omit<ApprovalView, "call" | "arguments">;

function stated(of: StoredApproval, trust: TrustIndex): Omit<Facts, "id" | "uri"> {
  const owner = trust.agent(of.agent)?.owner;
  return {
    status: of.state,
    agent: of.agent,
    ...(owner !== undefined && { owner }),
    path: [...of.path],
    sub: of.sub,
    ...(of.purpose !== undefined && { purpose: of.purpose }),
    txn: of.txn,
    resource: of.resource,
    action: of.action,
    args_digest: of.content.args,
    needs: of.needs.map(({ agent, grant, by, count }) => ({ agent, grant, by: [...by], count })),
    decisions: of.decisions.map(({ decider, via, decision, reason, at }) => ({
      by: decider,
      ...(via !== undefined && { via }),
      decision,
      reason,
      at: instantOf(at * 1_000),
    })),
    created_at: instantOf(of.createdAt * 1_000),
    expires_at: instantOf(of.expiresAt * 1_000),
  };
}

/** An approval with what would be called. */
export async function approvalView(
  approvals: Pick<Approvals, "shown">,
  of: StoredApproval,
  { issuer, trust }: { issuer: string; trust: () => TrustIndex },
): Promise<ApprovalView> {
  const { call, args } = await approvals.shown(of);
  return { ...factsAt(of, issuer, trust()), call: { ...call }, arguments: args };
}

function factsAt(of: StoredApproval, issuer: string, trust: TrustIndex): Facts {
  return { id: of.id, uri: approvalUri(issuer, of.id), ...stated(of, trust) };
}

/** By which definition a tool is accepted now; none while it is quarantined. */
export function acceptedHash(pins: ToolPins, trust: () => TrustIndex) {
  return async (name: string, tool: string): Promise<string | undefined> => {
    const resource = trust().resourceByName(name);
    const pin = resource?.kind === "mcp" ? await pins.find(toolServerOf(resource), tool) : undefined;
    return pin?.status === "pinned" ? pin.hash : undefined;
  };
}
