/**
 * The room `channels`: approvals asked for in Slack, Microsoft Teams and wherever a webhook leads, and decisions that come from
 * there. It says what leaves and whether what comes is signed and from whom; whether somebody may decide is the room
 * `approvals`' to say, and nothing of a proxied call waits for a channel.
 *
 * This file: what the room stands on, and its door.
 */
import type { ApprovalView } from "../api/approvals.ts";
import type { Noise } from "../audit/noise.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { StoredApproval } from "../approvals/approval.ts";
import type { Approvals } from "../approvals/approvals.ts";
import type { Authorizer } from "../authz/authorize.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Egress } from "../system/egress.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import type { Secrets } from "../vault/secrets.ts";
import { createHooks, type Hooks } from "./hooks.ts";
import { createChannelSender } from "./sender.ts";
import { approvalChanged, countMessages, messagesOf } from "./store.ts";

/** What the room stands on. */
export interface ChannelsDeps {
  readonly db: Pick<Db, "query">;
  readonly clock: DatabaseClock;
  readonly trust: () => TrustIndex;
  readonly authorizer: Pick<Authorizer, "authorize">;
  readonly secrets: Pick<Secrets, "open" | "describe">;
  readonly egress: Pick<Egress, "send">;
  readonly approvals: Pick<Approvals, "read" | "decide">;
  /** What may be shown of an approval. */
  readonly viewOf: (approval: StoredApproval) => Promise<ApprovalView>;
  readonly recorder: Recorder;
  readonly noise: Noise;
  readonly metrics: Pick<Metrics, "channelMessages" | "channelUntold" | "channelsStuck" | "hooksReceived">;
  readonly log: Log;
}

/** How one channel was told of an approval. */
export interface ToldAt {
  readonly channel: string;
  /** `waiting`: not yet. */
  readonly told: string;
  readonly problem?: string;
}

/** The room. */
export interface Channels {
  readonly hooks: Hooks;
  /** An approval was made, decided or used: channels are told now. Never fails. */
  changed(approval: string): void;
  /** Where an approval was told of. */
  toldOf(approval: string): Promise<readonly ToldAt[]>;
  setGauges(): Promise<void>;
  close(): Promise<void>;
}

/** Opens the room and starts to send. */
export function createChannels(deps: ChannelsDeps): Channels {
  const { db, clock, metrics, log } = deps;
  const sender = createChannelSender(deps);
  const hooks = createHooks(deps);
  return {
    hooks: hooks.hooks,
    changed(approval) {
      approvalChanged(db, approval)
        .then(sender.wake)
        // It is found by itself, some seconds later.
        .catch((err: unknown) => log.warn("channels_not_read", { err }));
    },
    async toldOf(approval) {
      return (await messagesOf(db, approval)).map(({ channel, told, problem }) => ({
        channel,
        told: told?.split(" ")[0] ?? "waiting",
        ...(problem !== null && { problem }),
      }));
    },
    async setGauges() {
      const { waiting, stuck } = await countMessages(db, Math.floor(clock.nowMs()));
      metrics.channelUntold.set(waiting);
      metrics.channelsStuck.set(stuck);
    },
    async close() {
      await sender.close();
      await hooks.close();
    },
  };
}
