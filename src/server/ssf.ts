import type { Rooms } from "../http/rooms.ts";
import { createSsf } from "../revocation/ssf.ts";
import { createSsfStore } from "../revocation/ssf-streams.ts";
import type { StsDeps } from "../sts/deps.ts";
import type { LiveTokens } from "../sts/live-tokens.ts";
import type { Egress } from "../system/egress.ts";
import { every } from "./background.ts";
import type { Ground } from "./ground.ts";
import { ssfRoom } from "./ssf-room.ts";

/** How often waiting events are counted, in milliseconds; each replica shows all of them. */
const GAUGES_MS = 5_000;

/** Opens the transmitter of Shared Signals, and starts to push. */
export function openSsf(
  ground: Ground,
  at: { sts: StsDeps; live: LiveTokens; operators: Rooms["operators"]; egress: Egress },
): { room: Rooms["ssf"]; wake: () => void } {
  const { db, clock, keys, envelope, metrics, log, lifecycle, resolve } = ground;
  const { sts, live, operators, egress } = at;
  const { issuer, trust, recorder } = sts;
  const store = createSsfStore(db);
  const transmitter = { db, clock, keys, envelope, egress, issuer, trust, recorder, store, metrics, log };
  const ssf = createSsf(transmitter);
  // Polls end before answers are waited for.
  lifecycle.onStop("accepting", "ssf polls", async () => ssf.hushPolls());
  lifecycle.onStop("background", "ssf", ssf.close);
  every(GAUGES_MS, "ssf gauges", { lifecycle, log, work: ssf.setGauges });
  return { room: ssfRoom({ sts, live, operators, ssf, transmitter, resolve }), wake: ssf.wake };
}
