import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import { RefusedToken } from "../../src/core/token/refused.ts";
import { createTrustIndex, type TrustIndex } from "../../src/core/trust/compiled.ts";
import type { Agent, Issuer, TrustKind, TrustRule } from "../../src/core/trust/model.ts";
import { createFederation, type Federation } from "../../src/federation/federation.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createEgress, type Egress } from "../../src/system/egress.ts";
import type { Metrics } from "../../src/system/metrics.ts";
import { handClock, type HandClock } from "../support/hand-clock.ts";
import type { TestIssuer } from "../support/oidc-issuer.ts";

export const OUR_ISSUER = "https://sts.acme.example";

/** A federation over real egress, a hand-moved clock and a trust index that the test changes. */
export interface OpenFederation {
  readonly trust: TrustIndex;
  readonly federation: Federation;
  readonly clock: HandClock;
  /** Claims and times of a plain good token, for `mint`. */
  readonly now: () => number;
  put(objects: { issuers?: readonly Issuer[]; agents?: readonly Agent[] }): void;
  remove(kind: TrustKind, name: string): void;
}

export function openFederation(
  t: Pick<TestContext, "after">,
  objects: { issuers?: readonly Issuer[]; agents?: readonly Agent[] } = {},
  options: { egress?: Egress; metrics?: Metrics } = {},
): OpenFederation {
  const clock = handClock();
  const index = createTrustIndex();
  const egress = options.egress ?? createEgress();
  t.after(() => egress.close());
  let version = 0;
  const none = { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [] };
  const put: OpenFederation["put"] = (upserts) => {
    version += 1;
    index.apply({ upserts: { ...none, ...upserts }, deletes: [], version });
  };
  put(objects);
  return {
    trust: index,
    federation: createFederation({
      trust: () => index,
      egress,
      clock: createDatabaseClock(clock),
      issuerUrl: OUR_ISSUER,
      metrics: options.metrics,
    }),
    clock,
    now: () => clock.seconds(),
    put,
    remove(kind, name) {
      version += 1;
      index.apply({ upserts: none, deletes: [{ kind, name }], version });
    },
  };
}

/** A trust entry for a test issuer. */
export function issuerEntry(issuer: Pick<TestIssuer, "url"> | string, changes: Partial<Issuer> = {}): Issuer {
  return {
    name: "ci",
    url: typeof issuer === "string" ? issuer : issuer.url,
    audience: [OUR_ISSUER],
    identifies: "workloads",
    internal: true,
    singleUse: false,
    ...changes,
  };
}

/** An agent that is recognised by these rules. */
export function agentEntry(name: string, trust: readonly TrustRule[], changes: Partial<Agent> = {}): Agent {
  return { name, owner: "dana@acme.example", trust, keys: [], status: "active", ...changes };
}

/** Asserts that a token is refused for this reason. */
export async function refusedFor(
  promise: Promise<unknown> | (() => unknown),
  reason: Reason,
  label = "",
): Promise<void> {
  const work = typeof promise === "function" ? (async () => promise())() : promise;
  await assert.rejects(
    work,
    (error) => {
      assert.ok(error instanceof RefusedToken, `${label}: ${String(error)}`);
      assert.equal(error.reason, reason, label);
      return true;
    },
    label,
  );
}
