import { createNoise } from "../audit/noise.ts";
import { createRecorder, type Recorder } from "../audit/recorder.ts";
import { createAuthorizer } from "../authz/authorize.ts";
import { createGate } from "../authz/gate.ts";
import type { Config } from "../config.ts";
import { keptFor } from "../db/kept.ts";
import { createFederation } from "../federation/federation.ts";
import type { Rooms } from "../http/rooms.ts";
import { createDpopNonces } from "../keys/dpop-nonce.ts";
import { createOperators } from "../operators/authenticate.ts";
import { createRegistry, type Registry } from "../registry/registry.ts";
import { createRevocation } from "../revocation/revocation.ts";
import type { StsDeps } from "../sts/deps.ts";
import { createSts } from "../sts/sts.ts";
import { createEgress, type Egress } from "../system/egress.ts";
import { createUlids, type Ulids } from "../system/random.ts";
import { createPlaces } from "../tasks/facts.ts";
import { anchorDatabase } from "./anchor.ts";
import { every, heedNotices } from "./background.ts";
import { openBroker } from "./broker.ts";
import { applyConfiguredTrust } from "./configured-trust.ts";
import { createCheckSettings } from "./credential-settings.ts";
import type { Ground } from "./ground.ts";
import { keyRooms } from "./key-rooms.ts";
import { createFeed } from "../revocation/feed.ts";
import { feedRoom } from "./feed-room.ts";
import { killRooms } from "./kills.ts";
import { loginRoom } from "./login-room.ts";
import { createLedger } from "./ledger.ts";
import { registryRooms } from "./registry-rooms.ts";
import { taskRooms } from "./task-rooms.ts";
import { credentialRooms, secretRooms } from "./vault-rooms.ts";

/** Beyond this distance from the database's clock nothing is minted (INV-25), in milliseconds. */
const MAX_SKEW_MS = 5_000;
/** How often gauges are set, in milliseconds. */
const GAUGES_MS = 1_000;

/** Opens every room on the ground, and hands the edge what its routes call. */
export async function openRooms(config: Config, ground: Ground): Promise<Rooms> {
  const { db, clock, keys, log, lifecycle, metrics, replica, heartbeat } = ground;
  const { issuer } = config;
  // Known below: leases end, and verifiers are told, by what happens in the rooms that those stand on.
  let wake = (): void => {};
  const ids = createUlids();
  const recorder = createRecorder({ db, clock, replica, ids, trustVersion: () => registry.trust.version });
  const registry = createRegistry({
    db,
    clock,
    issuerUrl: issuer,
    log,
    checkSettings: createCheckSettings(clock),
    event: (draft) => recorder.draft(draft, "granted"),
  });
  await registry.load();
  await applyConfiguredTrust(config, registry, log);
  heedNotices(db.options, { registry, keys, heed: ground.heed, killed: () => wake(), lifecycle, log });
  const anchoring = await anchorDatabase(config, { db, log, isFirstStart: ground.isFirstStart });
  // Registered before the gate, so that the last head is made after the gate's last event.
  const ledger = createLedger({ db, clock, issuer, keys, recorder, anchoring, lifecycle, log });
  const egress = createEgress(ground.resolve === undefined ? {} : { resolve: ground.resolve });
  lifecycle.onStop("background", "egress", egress.close);
  const struck = (): void => wake();
  const anchor = (position: number): Promise<void> => anchoring.raise({ position });
  const deps = stsDeps(config, ground, { recorder, registry, ids, egress, struck, anchor });
  const broker = openBroker(ground, deps, { egress, aws: config.aws });
  every(GAUGES_MS, "gauges", {
    lifecycle,
    log,
    work: async () => {
      metrics.trustVersion.set(registry.trust.version);
      metrics.clockSkewSeconds.set(clock.skewMs() / 1_000);
      metrics.replicaLive.set(heartbeat.mayRelease() ? 1 : 0);
    },
  });
  const sts = createSts(deps);
  const feed = createFeed({ db, clock, log });
  lifecycle.onStop("accepting", "feed", feed.close);
  wake = () => {
    broker.worker.wake();
    feed.heard();
  };
  // Who may kill, and what may be killed, is asked where nobody else asks (INV-10).
  const kept = keptFor(db, "operators");
  return {
    sts: { ...sts, dpopNonce: () => deps.dpopNonces.current(clock.now()) },
    operators: createOperators({ db: kept }),
    ...taskRooms(deps, sts.live, wake),
    revocations: feedRoom({ sts: deps, live: sts.live, feed, keys }),
    login: loginRoom(deps.trust),
    credentials: credentialRooms({ sts: deps, live: sts.live, broker: broker.deps }),
    secrets: secretRooms(broker.deps),
    kills: killRooms({ sts: deps, kept, kinds: broker.deps.kinds }),
    registry: registryRooms(registry, recorder),
    ledger,
    keys: keyRooms({ keys, envelope: ground.envelope, recorder, clock, db }),
    readiness: async () => ({
      database: await heartbeat.beat().then(
        () => true,
        () => false,
      ),
      clock: clock.skewMs() <= MAX_SKEW_MS,
      ...(config.anchor !== null && { anchor: anchoring.isGood }),
      serving: !lifecycle.isStopping(),
    }),
    refusedAtEdge: ({ reason, requestId, route, remoteAddress, agent }) => {
      const draft = { type: "admin.request" as const, requestId, facts: { route } };
      const recorded =
        agent === undefined
          ? deps.noise.refused(draft, reason, remoteAddress)
          : recorder.refused({ ...draft, agent }, reason);
      recorded.catch(() => {});
    },
  };
}

/** The token service with the gate in front of it. */
function stsDeps(
  config: Config,
  ground: Ground,
  at: {
    recorder: Recorder;
    registry: Registry;
    ids: Ulids;
    egress: Egress;
    struck: () => void;
    anchor: (position: number) => Promise<void>;
  },
): StsDeps {
  const { db, clock, keys, log, lifecycle, metrics, replica, heartbeat } = ground;
  const { recorder, registry, ids, egress, struck, anchor } = at;
  const noise = createNoise({ db, clock, recorder });
  const gate = createGate({
    db,
    clock,
    replica,
    ids,
    observe: (rows, ms) => {
      metrics.gateBatchSize.observe(rows);
      metrics.gateSeconds.observe(ms / 1_000);
    },
  });
  lifecycle.onStop("background", "ledger", async () => {
    await gate.idle();
    await noise.close();
    await recorder.idle();
  });
  return {
    issuer: config.issuer,
    trustDomain: config.trustDomain ?? undefined,
    defaultTtlSeconds: config.tokens.ttlSeconds,
    taskSeconds: { default: config.tasks.defaultSeconds, max: config.tasks.maxSeconds },
    db,
    clock,
    trust: () => registry.trust,
    federation: createFederation({
      trust: () => registry.trust,
      egress,
      clock,
      issuerUrl: config.issuer,
      metrics,
      log,
    }),
    keys,
    dpopNonces: createDpopNonces(() => keys.nonceSecret()),
    outstanding: ground.outstanding,
    authorizer: createAuthorizer({
      gate,
      recorder,
      clock,
      mayRelease: heartbeat.mayRelease,
      outstanding: ground.outstanding,
      catchUp: registry.catchUp,
      observe: (outcome) => metrics.gateOutcomes.inc({ outcome }),
    }),
    recorder,
    noise,
    places: createPlaces(db),
    revocation: createRevocation({ ...ground, recorder, struck, anchor }),
    log,
    metrics,
  };
}
