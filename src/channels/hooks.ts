import { sourcePrefix } from "../audit/noise.ts";
import { ProblemError } from "../api/problem.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { Channel, ChannelKind } from "../core/trust/model.ts";
import { constantTimeEqual, sha256Base64url } from "../system/hash.ts";
import type { SecretBytes } from "../vault/secret-bytes.ts";
import type { ChannelsDeps } from "./channels.ts";
import { hearSlack } from "./hear-slack.ts";
import { hearTeams } from "./hear-teams.ts";
import { hearWebhook } from "./hear-webhook.ts";
import { SIGNED_WITHIN_SECONDS, slackSignature, teamsSignature, webhookSignature } from "./signatures.ts";
import { createSigningKeys, type SigningKeys } from "./signing-keys.ts";

/** What came to a channel's address. */
export interface HookRequest {
  readonly channel: string;
  /** A character for a byte. */
  readonly body: string;
  /** The value of a header, by its name in lower case. */
  readonly header: (name: string) => string | undefined;
  readonly requestId: string;
  readonly remoteAddress: string;
}

/** Where channels send what people say there. Undefined: not signed as it must be, and nothing else is told. */
export interface Hooks {
  slack(request: HookRequest): Promise<"heard" | undefined>;
  /** @returns what is answered to whoever wrote */
  teams(request: HookRequest): Promise<string | undefined>;
  /** @throws {ProblemError}, {AccessDeniedError}, recorded */
  webhook(request: HookRequest): Promise<{ readonly approval: string; readonly status: string } | undefined>;
}

/** A request that its channel signed. */
export interface AnySigned {
  readonly channel: Channel;
  readonly request: HookRequest;
  /** Works once. */
  readonly replayKey: string;
}

/** Of one kind of channel. */
export interface Signed<K extends ChannelKind> extends AnySigned {
  readonly channel: Extract<Channel, { kind: K }>;
}

/** What listeners of all kinds stand on. */
export interface HookDeps extends ChannelsDeps {
  /** Work that nobody waits for; bounded. */
  readonly behind: (work: () => Promise<unknown>) => void;
}

/** Requests in progress in one process; more are answered 503. */
const IN_PROGRESS = 32;
/** Requests of one network in a minute and process: a team clicks less, and each costs a look into the database. */
const PER_MINUTE = 240;
/** Networks that are counted; beyond, all others together. */
const MAX_NETWORKS = 10_000;
/** Whispers under way; more are not said. */
const MAX_BEHIND = 20;

/** Opens the doors. */
export function createHooks(deps: ChannelsDeps): { readonly hooks: Hooks; close(): Promise<void> } {
  const keys = createSigningKeys(deps);
  const isTooOften = createLimit(deps.clock);
  const underWay = new Set<Promise<unknown>>();
  const behind: HookDeps["behind"] = (work) => {
    if (underWay.size >= MAX_BEHIND) return;
    const one: Promise<unknown> = work()
      .catch((err: unknown) => deps.log.warn("channel_whisper_failed", { err }))
      .finally(() => underWay.delete(one));
    underWay.add(one);
  };
  let inProgress = 0;

  /** Checks who sent it, then hears it. */
  function door<K extends ChannelKind, T>(
    kind: K,
    hear: (deps: HookDeps, signed: Signed<K>) => Promise<T | undefined>,
  ): (request: HookRequest) => Promise<T | undefined> {
    return async (request) => {
      if (inProgress >= IN_PROGRESS) throw new TemporarilyUnavailableError({ reason: "overloaded" });
      inProgress += 1;
      let outcome = "failed";
      try {
        if (isTooOften(request.remoteAddress)) {
          outcome = "refused";
          await refuseStranger(deps, kind, { request, reason: "rate_limited" });
          throw new ProblemError("too_many_requests");
        }
        const proved = await prove(deps, { kind, request, keys });
        const heard = "refusal" in proved ? undefined : await hear({ ...deps, behind }, proved);
        if ("refusal" in proved) await refuseStranger(deps, kind, { request, reason: proved.refusal });
        outcome = heard === undefined ? "refused" : "heard";
        return heard;
      } finally {
        inProgress -= 1;
        deps.metrics.hooksReceived.inc({ kind, outcome });
      }
    };
  }

  return {
    hooks: { slack: door("slack", hearSlack), teams: door("teams", hearTeams), webhook: door("webhook", hearWebhook) },
    async close() {
      await Promise.all(underWay);
      keys.close();
    },
  };
}

/** Counted, and recorded once a minute for each reason and network (A-AUD-07). */
async function refuseStranger(
  { noise }: Pick<ChannelsDeps, "noise">,
  kind: ChannelKind,
  { request, reason }: { request: HookRequest; reason: Reason },
): Promise<void> {
  const { channel, requestId, remoteAddress } = request;
  const draft = { type: "hook.receive" as const, requestId, facts: { channel: channel.slice(0, 64), kind } };
  await noise.refused(draft, reason, remoteAddress);
}

async function prove<K extends ChannelKind>(
  { trust, clock, log }: ChannelsDeps,
  { kind, request, keys }: { kind: K; request: HookRequest; keys: SigningKeys },
): Promise<Signed<K> | { readonly refusal: Reason }> {
  const channel = trust().channel(request.channel);
  if (channel?.kind !== kind || channel.signingSecret === undefined) return { refusal: "hook_channel_unknown" };
  const proof = PROOFS[kind](request);
  if (proof === undefined) return { refusal: "hook_unsigned" };
  const { timestamp, presented, expected } = proof;
  if (timestamp !== undefined && !isTimely(timestamp, clock.now())) return { refusal: "hook_stale" };
  const wanted = await keys.use(channel, expected);
  if (wanted === undefined) {
    log.warn("channel_secret_unusable", {
      name: channel.name,
      note: `set it: ephor secret set ${channel.signingSecret}; see docs/channels.md`,
    });
    return { refusal: "hook_signature" };
  }
  // All are compared, so that time tells nothing.
  const fits = presented.map((one) => constantTimeEqual(one, wanted));
  if (!fits.includes(true)) return { refusal: "hook_signature" };
  const replayKey = `hook:${channel.name}:${sha256Base64url(wanted)}`;
  return { channel: channel as Signed<K>["channel"], request, replayKey };
}

interface Proof {
  /** Seconds; undefined where the time is inside what is signed. */
  readonly timestamp: string | undefined;
  readonly presented: readonly string[];
  readonly expected: (key: SecretBytes) => string;
}

/** Longest value of a header that says something about a signature. */
const MAX_HEADER = 1_024;
/** Signatures in one request: a secret that is being rotated has two. */
const MAX_SIGNATURES = 5;

const PROOFS: { readonly [K in ChannelKind]: (request: HookRequest) => Proof | undefined } = {
  slack({ header, body }) {
    const [signature, timestamp] = [header("x-slack-signature"), header("x-slack-request-timestamp")];
    if (signature === undefined || timestamp === undefined || signature.length > MAX_HEADER) return undefined;
    return { timestamp, presented: [signature], expected: (key) => slackSignature(key, { timestamp, body }) };
  },
  teams({ header, body }) {
    const authorization = header("authorization");
    if (authorization === undefined || authorization.length > MAX_HEADER) return undefined;
    return { timestamp: undefined, presented: [authorization], expected: (key) => teamsSignature(key, { body }) };
  },
  webhook({ header, body }) {
    const [id, timestamp, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(header);
    if (id === undefined || timestamp === undefined || signatures === undefined) return undefined;
    // A dot would move the border between id and time.
    if (!/^[\x21-\x2d\x2f-\x7e]{1,256}$/.test(id) || signatures.length > MAX_HEADER) return undefined;
    const presented = signatures.split(" ").slice(0, MAX_SIGNATURES);
    return { timestamp, presented, expected: (key) => webhookSignature(key, { id, timestamp, body }) };
  },
};

function isTimely(timestamp: string, now: number): boolean {
  return /^[0-9]{1,12}$/.test(timestamp) && Math.abs(Number(timestamp) - now) <= SIGNED_WITHIN_SECONDS;
}

/** Counts requests of a network within the minute. */
function createLimit({ nowMs }: ChannelsDeps["clock"]): (address: string) => boolean {
  let minute = 0;
  let counts = new Map<string, number>();
  return (address) => {
    const now = Math.floor(nowMs() / 60_000);
    if (now !== minute) {
      minute = now;
      counts = new Map();
    }
    const network = sourcePrefix(address);
    const key = counts.has(network) || counts.size < MAX_NETWORKS ? network : "other";
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    return count > PER_MINUTE;
  };
}
