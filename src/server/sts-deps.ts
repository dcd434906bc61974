import { createNoise } from "../audit/noise.ts";
import type { Recorder } from "../audit/recorder.ts";
import { createAuthorizer } from "../authz/authorize.ts";
import { createGate } from "../authz/gate.ts";
import type { Config } from "../config.ts";
import { createFederation } from "../federation/federation.ts";
import { createDpopNonces } from "../keys/dpop-nonce.ts";
import type { Registry } from "../registry/registry.ts";
import { createRevocation } from "../revocation/revocation.ts";
import type { StsDeps } from "../sts/deps.ts";
import type { Egress } from "../system/egress.ts";
import type { Ulids } from "../system/random.ts";
import { createPlaces } from "../tasks/facts.ts";
import type { Ground } from "./ground.ts";

/** The token service with the gate in front of it. */
export function stsDeps(
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
    takeIn: registry.catchUp,
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
