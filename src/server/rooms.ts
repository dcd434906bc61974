import { createRecorder } from "../audit/recorder.ts";
import { drop } from "../authz/heed.ts";
import type { Config } from "../config.ts";
import { keptFor } from "../db/kept.ts";
import type { PageMakerOf } from "../http/pages.ts";
import type { Rooms } from "../http/rooms.ts";
import { createOperators } from "../operators/authenticate.ts";
import { createRegistry, type Registry } from "../registry/registry.ts";
import { createSignalsReceived } from "../revocation/signals-received.ts";
import type { StsDeps } from "../sts/deps.ts";
import { createSts } from "../sts/sts.ts";
import { createEgress, type Egress } from "../system/egress.ts";
import { createPrograms } from "../system/programs.ts";
import { createUlids } from "../system/random.ts";
import { anchorDatabase } from "./anchor.ts";
import { every, heedNotices } from "./background.ts";
import { createCanary } from "./canary.ts";
import { openBroker } from "./broker.ts";
import { consoleRooms } from "./console-room.ts";
import { applyConfiguredTrust } from "./configured-trust.ts";
import { createCheckSettings } from "./credential-settings.ts";
import type { Ground } from "./ground.ts";
import { keyRooms } from "./key-rooms.ts";
import { createFeed, type Feed } from "../revocation/feed.ts";
import { feedRoom } from "./feed-room.ts";
import { killRooms } from "./kills.ts";
import { loginRoom } from "./login-room.ts";
import { createLedger } from "./ledger.ts";
import { openWaiting, proxiedRooms } from "./proxy-room.ts";
import { openSsf } from "./ssf.ts";
import { createRecordings } from "../proxy/recordings.ts";
import { recordingsRoom } from "./recordings-room.ts";
import { registryRooms } from "./registry-rooms.ts";
import { stsDeps } from "./sts-deps.ts";
import { taskRooms } from "./task-rooms.ts";
import { credentialRooms, secretRooms } from "./vault-rooms.ts";

/** Beyond this distance from the database's clock nothing is minted (INV-25), in milliseconds. */
const MAX_SKEW_MS = 5_000;
/** How often gauges are set, in milliseconds. */
const GAUGES_MS = 1_000;

/** Opens every room on the ground, and hands the edge what its routes call, and who makes the pages. */
export async function openRooms(config: Config, ground: Ground): Promise<{ rooms: Rooms; console: PageMakerOf }> {
  const { db, clock, keys, log, lifecycle, metrics, replica } = ground;
  const { issuer } = config;
  // Known below: leases end, and verifiers are told, by what happens in the rooms that those stand on.
  let wake = (): void => {};
  let everywhere = async (_position: number): Promise<unknown> => undefined;
  const canary = createCanary({ everySeconds: config.canarySeconds, issuer });
  const programs = createPrograms(config.stdio.allow);
  const ids = createUlids();
  const recorder = createRecorder({ db, clock, log, replica, ids, trustVersion: () => registry.trust.version });
  const registry = createRegistry({
    db,
    clock,
    issuerUrl: issuer,
    log,
    canary: canary?.trust,
    checkSettings: createCheckSettings(clock),
    checkProgram: (program) => {
      const found = programs.find(program);
      return "path" in found ? undefined : found;
    },
    event: (draft) => recorder.draft(draft, "granted"),
    changed: (touched, position) => ground.outstanding.struck(new Map(touched.map((key) => [key, position]))),
    withdrawn: withdrawal(ground, (position) => everywhere(position)),
  });
  await registry.load();
  ground.heed.follow(registry.catchUp);
  await applyConfiguredTrust(config, registry, log);
  const waiting = openWaiting(ground, () => registry.trust);
  heedNotices(db.options, { registry, keys, heed: ground.heed, killed: () => wake(), waiting, lifecycle, log });
  const anchoring = await anchorDatabase(config, { db, log, isFirstStart: ground.isFirstStart });
  // Registered before the gate, so that the last head is made after the gate's last event.
  const trustVersion = (): number => registry.trust.version;
  const ledger = createLedger({ db, clock, issuer, keys, recorder, anchoring, lifecycle, log, trustVersion });
  const egress = openEgress(ground);
  const struck = (): void => wake();
  const anchor = (position: number): Promise<void> => anchoring.raise({ position });
  const deps = stsDeps(config, ground, { recorder, registry, ids, egress, struck, anchor });
  everywhere = deps.revocation.everywhere;
  const broker = openBroker(ground, deps, { egress, aws: config.aws });
  keepGauges(ground, registry);
  const sts = createSts(deps);
  const feed = openFeed(ground);
  // Who may kill, and what may be killed, is asked where nobody else asks (INV-10).
  const kept = keptFor(db, "operators", { kept: true });
  const operators = createOperators({ db: kept });
  const ssf = openSsf(ground, { sts: deps, live: sts.live, operators, egress });
  wake = () => {
    broker.worker.wake();
    feed.heard();
    ssf.wake();
  };
  const refusedAtEdge = edgeRefusals(deps);
  const secret = (): Uint8Array => keys.nonceSecret();
  const { sessions, console } = consoleRooms({ ...deps, operators, refusedAtEdge, egress, secret });
  const rooms: Rooms = {
    sts: { ...sts, dpopNonce: () => deps.dpopNonces.current(clock.now()) },
    operators,
    sessions,
    ...taskRooms(deps, sts.live, { streams: ground.streams, ended: wake }),
    ssf: ssf.room,
    revocations: feedRoom({ sts: deps, live: sts.live, feed, keys }),
    signals: { receive: createSignalsReceived(deps) },
    login: loginRoom(deps.trust),
    credentials: credentialRooms({ sts: deps, live: sts.live, broker: broker.deps }),
    ...proxiedRooms(ground, { sts: deps, live: sts.live, broker: broker.deps, programs, waiting }),
    secrets: secretRooms(broker.deps),
    kills: killRooms({ sts: deps, kept, kinds: broker.deps.kinds }),
    registry: registryRooms(registry, recorder),
    ledger,
    recordings: recordingsRoom(createRecordings({ db, envelope: ground.envelope, clock }), recorder),
    keys: keyRooms({ keys, envelope: ground.envelope, recorder, clock, db }),
    readiness: readinessOf(config, ground, anchoring),
    refusedAtEdge,
  };
  canary?.start(rooms, { clock, log, metrics, recorder, lifecycle });
  return { rooms, console };
}

function openEgress({ resolve, lifecycle }: Ground): Egress {
  const egress = createEgress(resolve === undefined ? {} : { resolve });
  lifecycle.onStop("background", "egress", egress.close);
  return egress;
}

function openFeed({ db, clock, log, metrics, lifecycle }: Ground): Feed {
  const feed = createFeed({ db, clock, log, metrics });
  lifecycle.onStop("accepting", "feed", feed.close);
  return feed;
}

function keepGauges({ lifecycle, log, metrics, clock, heartbeat }: Ground, registry: Registry): void {
  every(GAUGES_MS, "gauges", {
    lifecycle,
    log,
    work: async () => {
      metrics.trustVersion.set(registry.trust.version);
      metrics.clockSkewSeconds.set(clock.skewMs() / 1_000);
      metrics.replicaLive.set(heartbeat.mayRelease() ? 1 : 0);
    },
  });
}

function readinessOf(
  config: Config,
  { heartbeat, clock, lifecycle }: Ground,
  anchoring: { readonly isGood: boolean },
): Rooms["readiness"] {
  return async () => ({
    database: await heartbeat.beat().then(
      () => true,
      () => false,
    ),
    clock: clock.skewMs() <= MAX_SKEW_MS,
    ...(config.anchor !== null && { anchor: anchoring.isGood }),
    serving: !lifecycle.isStopping(),
  });
}

/** Counts strangers, and records whoever is known (A-AUD-07). */
function edgeRefusals({ noise, recorder }: Pick<StsDeps, "noise" | "recorder">): Rooms["refusedAtEdge"] {
  return ({ reason, requestId, route, remoteAddress, agent }) => {
    const draft = { type: "admin.request" as const, requestId, facts: { route } };
    const recorded =
      agent === undefined ? noise.refused(draft, reason, remoteAddress) : recorder.refused({ ...draft, agent }, reason);
    recorded.catch(() => {});
  };
}

/** What an apply takes away: it is dropped here, and everywhere before the apply is answered. */
function withdrawal(ground: Ground, everywhere: (position: number) => Promise<unknown>) {
  return async (position: number, killed: readonly string[]): Promise<void> => {
    drop(ground, new Map(killed.map((key) => [key, position])));
    await everywhere(position);
  };
}
