import type { ApprovalPage, ApprovalView } from "../../api/approvals.ts";
import type { AuditPage } from "../../api/audit.ts";
import type { TrustObject } from "../../api/trust-objects.ts";
import { ApiError } from "../../sdk/client/errors.ts";
import { isRecord } from "../../sdk/client/wire.ts";
import type { CliContext } from "../context.ts";
import { nowSeconds } from "../moments.ts";
import type { Finding } from "./finding.ts";

/** How far back a refusal says something about now, in seconds: an upstream is given a rest of half a minute at most. */
const RECENT_SECONDS = 300;
/** Refusals that are read at most; each upstream is named once. */
const MAX_REFUSALS = 200;
/** Waiting approvals that are looked at; one dead channel keeps many. */
const MAX_APPROVALS = 20;

/** What is wrong with the secret by which a channel is written to, and its mend. */
const SECRET_MENDS: Readonly<Record<string, string>> = {
  secret_missing: "Set the channel's secret",
  secret_malformed: "Set the channel's secret anew",
};

/** Upstreams at which calls were refused lately because nobody answers there. The ledger knows it of every replica. */
export async function lookAtUpstreams({ api }: CliContext): Promise<Finding[]> {
  const { events } = await api.get<AuditPage>("/v1/audit", {
    decision: "refused",
    reason: "upstream_unavailable",
    since: Math.floor(nowSeconds() - RECENT_SECONDS),
    limit: MAX_REFUSALS,
  });
  const lastAt = new Map<string, string>();
  // Newest first.
  for (const { resource, at } of events) if (resource !== undefined && !lastAt.has(resource)) lastAt.set(resource, at);
  if (lastAt.size === 0)
    return [{ subject: "upstreams", state: "ok", detail: "no call was refused lately because one was away" }];
  return [...lastAt].map(([resource, at]) => ({
    subject: "upstreams",
    state: "wrong",
    detail: `calls to ${resource} are refused because nobody answers there, last at ${at}`,
    mend: "See that it runs and that the server's machine reaches the resource's address; then calls go on by themselves",
  }));
}

/** Channels that do not take what they are to be told of approvals that wait. */
export async function lookAtChannels({ api }: CliContext): Promise<Finding[]> {
  const { items } = await api.get<ApprovalPage>("/v1/approvals", { status: "pending", limit: MAX_APPROVALS });
  const untold = new Map<string, { problem: string; approvals: string[] }>();
  for (const { id } of items) {
    const { channels = [] } = await api.get<ApprovalView>(`/v1/approvals/${id}`);
    for (const { channel, problem } of channels) {
      if (problem === undefined) continue;
      const known = untold.get(channel) ?? { problem, approvals: [] };
      known.approvals.push(id);
      untold.set(channel, known);
    }
  }
  if (untold.size === 0)
    return [{ subject: "channels", state: "ok", detail: "none keeps an approval that waits from being asked for" }];
  const findings: Finding[] = [];
  for (const [channel, { problem, approvals }] of untold)
    findings.push({
      subject: "channels",
      state: "wrong",
      detail: `${channel} does not take what waits (${problem}): ${approvals[0]}${approvals.length > 1 ? ` and ${approvals.length - 1} more` : ""}`,
      mend: `${await channelMend(api, channel, problem)}; until then decide by ephor approve`,
    });
  return findings;
}

async function channelMend(api: CliContext["api"], channel: string, problem: string): Promise<string> {
  if (problem === "address") return "Its address is private: internal: true, if it is meant";
  const mend = SECRET_MENDS[problem];
  if (mend === undefined) return "See that the server's machine reaches it and what it answers";
  const secret = await secretOf(api, channel);
  return secret === undefined ? `${mend}, by ephor secret set` : `${mend}: ephor secret set ${secret}`;
}

/** The secret by which a channel is written to; undefined where it is not there any more, or is of a kind that is new to us. */
async function secretOf(api: CliContext["api"], channel: string): Promise<string | undefined> {
  const { spec } = await api.get<TrustObject>(`/v1/channels/${channel}`).catch((error: unknown) => {
    if (error instanceof ApiError && error.status === 404) return { spec: {} };
    throw error;
  });
  const { slack, teams, webhook } = spec as Readonly<Record<string, unknown>>;
  const address = isRecord(teams) ? teams["webhook"] : undefined;
  const name = isRecord(slack)
    ? slack["token"]
    : isRecord(webhook)
      ? webhook["secret"]
      : isRecord(address) && address["secret"];
  return typeof name === "string" ? name : undefined;
}
