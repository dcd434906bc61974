import type { BrokerDeps } from "../broker/deps.ts";
import { providerKinds, type ProviderKinds } from "../broker/kinds.ts";
import { createCanaryProvider } from "../broker/providers/canary.ts";
import type { AwsKeys } from "../broker/providers/aws-sts.ts";
import { createOneAtATime } from "../broker/one-at-a-time.ts";
import { createRotationRounds } from "../broker/rotation-rounds.ts";
import { createLeaseWorker, type LeaseWorker } from "../broker/worker.ts";
import type { Config } from "../config.ts";
import type { StsDeps } from "../sts/deps.ts";
import type { Egress } from "../system/egress.ts";
import { createNextVersions } from "../vault/next-version.ts";
import { createSecrets } from "../vault/secrets.ts";
import { countLeases } from "../tasks/open-leases.ts";
import { every } from "./background.ts";
import type { Ground } from "./ground.ts";

/** How often the open leases are counted, in milliseconds; each replica shows all of them. */
const GAUGES_MS = 5_000;
/** How often rotations that were left behind, or are due, are looked for, in milliseconds. */
const ROTATIONS_MS = 5_000;

/** Opens the broker beside the token service, and starts the worker that ends leases. */
export function openBroker(
  ground: Ground,
  sts: StsDeps,
  at: { egress: Egress; aws: Config["aws"] },
): { deps: BrokerDeps; worker: LeaseWorker } {
  const { db, clock, keys, envelope, log, lifecycle } = ground;
  const sealed = { db, envelope, clock, fingerprintKey: () => keys.nonceSecret() };
  const deps: BrokerDeps = {
    db,
    clock,
    trust: sts.trust,
    authorizer: sts.authorizer,
    recorder: sts.recorder,
    places: sts.places,
    secrets: createSecrets(sealed),
    nextVersions: createNextVersions(sealed),
    envelope,
    egress: at.egress,
    kinds: kindsWithCanary(providerKinds({ now: () => clock.now(), environment: () => environmentKeys(at.aws) })),
    issuer: sts.issuer,
    identity: keys.identity,
    oneAtATime: createOneAtATime(db),
    log,
  };
  const worker = createLeaseWorker(deps);
  every(ROTATIONS_MS, "rotations", { lifecycle, log, work: createRotationRounds(deps) });
  lifecycle.onStop("background", "leases", worker.close);
  every(GAUGES_MS, "lease gauges", { lifecycle, log, work: () => setGauges(ground) });
  return { deps, worker };
}

/** Also where this replica has no canary: it may be the one that ends another's lease. */
function kindsWithCanary(kinds: ProviderKinds): ProviderKinds {
  const canary = createCanaryProvider();
  return new Map([...kinds, [canary.kind, canary]]);
}

async function setGauges({ db, clock, metrics }: Ground): Promise<void> {
  const { open, stuck, oldestSeconds } = await countLeases({ db, clock });
  for (const status of ["intent", "live", "ending"]) metrics.leasesOpen.set({ status }, open.get(status) ?? 0);
  metrics.leasesStuck.set(stuck);
  metrics.leasesOldestSeconds.set(oldestSeconds);
}

/** The keys of AWS that this process was started with, for `environment: true`. */
function environmentKeys(aws: Config["aws"]): AwsKeys | undefined {
  if (aws === null) return undefined;
  const { accessKeyId, secretAccessKey, sessionToken } = aws;
  return {
    accessKeyId,
    secretAccessKey: secretAccessKey.reveal(),
    ...(sessionToken !== null && { sessionToken: sessionToken.reveal() }),
  };
}
