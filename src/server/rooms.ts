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
import { every, heedNotices } from "./background.ts";
import { openBroker } from "./broker.ts";
import { applyConfiguredTrust } from "./configured-trust.ts";
import type { Ground } from "./ground.ts";
import { keyRooms } from "./key-rooms.ts";
import { killRooms } from "./kills.ts";
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
  const ids = createUlids();
  const recorder = createRecorder({ db, clock, replica, ids, trustVersion: () => registry.trust.version });
  const registry = createRegistry({
    db,
    clock,
    issuerUrl: issuer,
    log,
    event: (draft) => recorder.draft(draft, "granted"),
  });
  await registry.load();
  await applyConfiguredTrust(config, registry, log);
  heedNotices(db.options, { registry, keys, lifecycle, log });
  // Registered before the gate, so that the last head is made after the gate's last event.
  const ledger = createLedger({ db, clock, issuer, keys, recorder, lifecycle, log });
  const egress = createEgress(ground.resolve === undefined ? {} : { resolve: ground.resolve });
  lifecycle.onStop("background", "egress", egress.close);
  const deps = stsDeps(config, ground, { recorder, registry, ids, egress });
  const broker = openBroker(ground, deps, egress);
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
  // Who may kill, and what may be killed, is asked where nobody else asks (INV-10).
  const kept = keptFor(db, "operators");
  return {
    sts: { ...sts, dpopNonce: () => deps.dpopNonces.current(clock.now()) },
    operators: createOperators({ db: kept }),
    ...taskRooms(deps, sts.live),
    credentials: credentialRooms({ sts: deps, live: sts.live, broker: broker.deps }),
    secrets: secretRooms({ secrets: broker.deps.secrets, recorder }),
    kills: killRooms({ db, kept, clock, revocation: deps.revocation, keys, issuer, log }),
    registry: registryRooms(registry, recorder),
    ledger,
    keys: keyRooms({ keys, recorder, clock, db }),
    readiness: async () => ({
      database: await heartbeat.beat().then(
        () => true,
        () => false,
      ),
      clock: clock.skewMs() <= MAX_SKEW_MS,
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
  at: { recorder: Recorder; registry: Registry; ids: Ulids; egress: Egress },
): StsDeps {
  const { db, clock, keys, log, lifecycle, metrics, replica, heartbeat } = ground;
  const { recorder, registry, ids, egress } = at;
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
    authorizer: createAuthorizer({
      gate,
      recorder,
      clock,
      mayRelease: heartbeat.mayRelease,
      catchUp: registry.catchUp,
      observe: (outcome) => metrics.gateOutcomes.inc({ outcome }),
    }),
    recorder,
    noise,
    places: createPlaces(db),
    revocation: createRevocation({ db, clock, recorder, metrics }),
    log,
    metrics,
  };
}
