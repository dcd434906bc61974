import { OAuthError } from "../core/oauth/errors.ts";
import type { Channel } from "../core/trust/model.ts";
import { EgressError } from "../system/egress-error.ts";
import { randomToken } from "../system/random.ts";
import { SecretMissingError } from "../vault/secrets.ts";
import type { StoredApproval } from "../approvals/approval.ts";
import type { ChannelsDeps } from "./channels.ts";
import type { Sent } from "./outgoing.ts";
import { deliver, type Told } from "./deliver.ts";
import {
  claimChannels,
  dueMessages,
  keepChannel,
  leaveMessage,
  type ClaimedChannel,
  type MessageOutcome,
  type StoredMessage,
} from "./store.ts";

/** How often channels are looked at, in milliseconds, also when nothing was heard of. */
const ROUND_MS = 1_000;
/** Channels that this replica sends to at the same time. */
const MAX_UNDER_WAY = 20;
/** Messages that are read at once. */
const READ_MESSAGES = 20;
/** A channel is held for this long by who sends to it, in milliseconds: longer than one message may take. */
const CLAIM_MS = 30_000;
/** The first retry, and the longest pause between two, in milliseconds. Tried until the approval itself is forgotten. */
const RETRY_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** What ends an approval without anybody's word (time, a kill, a change of trust) is noticed within this, in milliseconds. */
const LOOK_MS = 10_000;

/** States after which nothing comes. */
const FINAL: ReadonlySet<string> = new Set(["denied", "used", "expired", "void"]);

/** Sends what is to be told. Any number of replicas may run one. */
export interface ChannelSender {
  /** Looks at once instead of within the second. */
  wake(): void;
  close(): Promise<void>;
}

/** Starts it. */
export function createChannelSender(deps: ChannelsDeps): ChannelSender {
  const { db, log } = deps;
  const underWay = new Set<Promise<void>>();
  const stop = new AbortController();
  let looking: Promise<void> | undefined;
  const now = (): number => Math.floor(deps.clock.nowMs());

  async function sendAll(claimed: ClaimedChannel): Promise<void> {
    for (;;) {
      const messages = await dueMessages(db, claimed.channel, { nowMs: now(), limit: READ_MESSAGES });
      for (const message of messages) {
        if (stop.signal.aborted) break;
        const retry = await tell(deps, { message, attempts: claimed.attempts, signal: stop.signal });
        if (retry !== undefined && !stop.signal.aborted) return await later(deps, claimed, retry);
        // Gone where it took too long and another replica goes on.
        if (!(await keepChannel(db, claimed, { untilMs: now() + CLAIM_MS }))) return;
      }
      if (messages.length === 0 || stop.signal.aborted)
        return void (await keepChannel(db, claimed, { retryAtMs: 0, problem: null, nowMs: now() }));
    }
  }

  async function look(): Promise<void> {
    const limit = MAX_UNDER_WAY - underWay.size;
    if (limit <= 0 || stop.signal.aborted) return;
    const nowMs = now();
    const claim = randomToken(12);
    for (const claimed of await claimChannels(db, { claim, nowMs, untilMs: nowMs + CLAIM_MS, limit })) {
      const sending: Promise<void> = sendAll(claimed)
        .catch(async (err: unknown) => {
          const problem = err instanceof OAuthError ? err.reason : "internal";
          log.warn("channel_not_told", { name: claimed.channel, reason: problem, err });
          await later(deps, claimed, { kind: "retry", problem, afterMs: 0 }).catch(() => {});
        })
        .finally(() => underWay.delete(sending));
      underWay.add(sending);
    }
  }

  const quietly = (): void => {
    if (stop.signal.aborted) return;
    looking ??= look()
      .catch((err: unknown) => log.warn("channels_not_read", { err }))
      .finally(() => {
        looking = undefined;
      });
  };
  const timer = setInterval(quietly, ROUND_MS);
  timer.unref();
  return {
    // A look that is under way may have been too early to see what happened.
    wake: () => void (looking ?? Promise.resolve()).then(quietly),
    async close() {
      stop.abort();
      clearInterval(timer);
      await looking;
      await Promise.all(underWay);
    },
  };
}

/** The time of the channel's next try. */
async function later(
  deps: ChannelsDeps,
  claimed: ClaimedChannel,
  { problem, afterMs }: Extract<Sent, { kind: "retry" }>,
): Promise<void> {
  const nowMs = Math.floor(deps.clock.nowMs());
  const pause = Math.max(Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** Math.min(claimed.attempts, 10)), afterMs);
  deps.metrics.channelMessages.inc({ outcome: "retried" });
  deps.log.warn("channel_retries", { name: claimed.channel, reason: problem, attempt: claimed.attempts + 1 });
  await keepChannel(deps.db, claimed, { retryAtMs: nowMs + pause, problem, nowMs });
}

/** How an approval stands, as far as it is told: one more decision of two is news too. */
function standing({ state, decisions }: StoredApproval): string {
  return state === "pending" && decisions.length > 0 ? `pending ${decisions.length}` : state;
}

/** Tells what is new, if anything is. @returns where the channel takes nothing now */
async function tell(
  deps: ChannelsDeps,
  { message, attempts, signal }: { message: StoredMessage; attempts: number; signal: AbortSignal },
): Promise<Extract<Sent, { kind: "retry" }> | undefined> {
  const { db } = deps;
  const dueAtMs = Math.floor(deps.clock.nowMs()) + LOOK_MS;
  const leave = (to: Partial<MessageOutcome>): Promise<void> =>
    leaveMessage(db, message, {
      told: message.told,
      place: message.place,
      isOver: false,
      dueAtMs,
      problem: null,
      ...to,
    });
  const approval = await deps.approvals.read(message.approval);
  // Forgotten, or decided before anybody could be asked there.
  if (approval === undefined || (message.told === null && approval.state !== "pending"))
    return void (await leave({ isOver: true, problem: message.problem }));
  const isOver = FINAL.has(approval.state);
  const told = standing(approval);
  if (told === message.told) return void (await leave({ isOver }));
  const channel = deps.trust().channel(message.channel);
  // Removed, or not known here yet.
  if (channel === undefined) return void (await leave({ problem: "channel_unknown" }));
  const sent = await attempt(deps, channel, { approval, told, attempts, place: message.place ?? undefined, signal });
  if (sent.kind === "retry") return sent;
  deps.metrics.channelMessages.inc({ outcome: sent.kind });
  if (sent.kind === "refused") {
    deps.log.warn("channel_message_refused", { name: channel.name, reason: sent.problem });
    return void (await leave({ isOver: true, problem: sent.problem }));
  }
  return void (await leave({ told, place: sent.place ?? message.place, isOver }));
}

async function attempt(deps: ChannelsDeps, channel: Channel, told: Told): Promise<Sent> {
  try {
    return await deliver(deps, channel, told);
  } catch (error) {
    if (error instanceof EgressError) return { kind: "retry", problem: error.kind, afterMs: 0 };
    if (error instanceof SecretMissingError) return { kind: "retry", problem: "secret_missing", afterMs: 0 };
    throw error;
  }
}
