import type { BrokerDeps } from "../broker/deps.ts";
import { providerKinds } from "../broker/kinds.ts";
import { createLeaseWorker, type LeaseWorker } from "../broker/worker.ts";
import type { StsDeps } from "../sts/deps.ts";
import type { Egress } from "../system/egress.ts";
import { createSecrets } from "../vault/secrets.ts";
import type { Ground } from "./ground.ts";

/** Opens the broker beside the token service, and starts the worker that ends leases. */
export function openBroker(ground: Ground, sts: StsDeps, egress: Egress): { deps: BrokerDeps; worker: LeaseWorker } {
  const { db, clock, keys, envelope, log, lifecycle } = ground;
  const deps: BrokerDeps = {
    db,
    clock,
    trust: sts.trust,
    authorizer: sts.authorizer,
    recorder: sts.recorder,
    places: sts.places,
    secrets: createSecrets({ db, envelope, clock, fingerprintKey: () => keys.nonceSecret() }),
    envelope,
    egress,
    kinds: providerKinds({ now: () => clock.now() }),
    log,
  };
  const worker = createLeaseWorker(deps);
  lifecycle.onStop("background", "leases", worker.close);
  return { deps, worker };
}
