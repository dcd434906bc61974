import type { Approvals } from "../approvals/approvals.ts";
import type { BrokerDeps } from "../broker/deps.ts";
import { createChannels, type Channels } from "../channels/channels.ts";
import type { StsDeps } from "../sts/deps.ts";
import { approvalView } from "./approvals-room.ts";
import { every } from "./background.ts";
import type { Ground } from "./ground.ts";

/** How often what was not told is counted, in milliseconds; each replica shows all of it. */
const GAUGES_MS = 5_000;

/** Opens the channels, and starts to tell them of approvals. */
export function openChannels(ground: Ground, at: { sts: StsDeps; broker: BrokerDeps; approvals: Approvals }): Channels {
  const { db, clock, metrics, log, lifecycle } = ground;
  const { approvals } = at;
  const { issuer, trust, authorizer, recorder, noise } = at.sts;
  const channels = createChannels({
    db,
    clock,
    trust,
    authorizer,
    secrets: at.broker.secrets,
    egress: at.broker.egress,
    approvals,
    viewOf: (approval) => approvalView(approvals, approval, { issuer, trust }),
    recorder,
    noise,
    metrics,
    log,
  });
  lifecycle.onStop("background", "channels", channels.close);
  every(GAUGES_MS, "channel gauges", { lifecycle, log, work: channels.setGauges });
  return channels;
}
