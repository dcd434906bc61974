/**
 * The room `proxy` is the identity-aware proxy: it authenticates each call, has it decided and recorded by the gate, puts
 * the upstream's credential in, and relays the answer for as long as it may flow. It parses once and sends what it parsed.
 * It issues nothing and knows no OAuth form; `http` hands it requests and writes what it answers.
 */
import type { Waiting } from "../approvals/waiting.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { Authorizer } from "../authz/authorize.ts";
import type { Streams } from "../authz/streams.ts";
import type { InjectedCredentials } from "../broker/injected.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Attestor } from "../keys/attestor.ts";
import type { AgentIdentity, Presented } from "../sts/agent-identity.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Egress } from "../system/egress.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import type { Upstreams } from "../system/egress-upstreams.ts";
import type { Places } from "../tasks/facts.ts";
import type { Admissions } from "./admission.ts";
import type { ProxyApprovals } from "./approved.ts";
import type { Breakers } from "./breakers.ts";
import type { Envelope } from "../vault/envelope.ts";
import type { Secrets } from "../vault/secrets.ts";

/** An agent that holds a token of ours for the resource it calls. */
export type Holder = AgentIdentity & { readonly token: NonNullable<AgentIdentity["token"]> };

/** What the proxy is built from. */
export interface ProxyDeps {
  readonly issuer: string;
  readonly trust: () => TrustIndex;
  readonly clock: DatabaseClock;
  readonly authorizer: Authorizer;
  readonly recorder: Recorder;
  readonly places: Places;
  readonly secrets: Pick<Secrets, "open">;
  /** Seals what is kept of calls. */
  readonly envelope: Pick<Envelope, "seal">;
  readonly injected: InjectedCredentials;
  readonly approvals: ProxyApprovals;
  /** Calls that wait for one. */
  readonly waiting: Waiting;
  readonly attestor: Attestor;
  readonly streams: Streams;
  readonly upstreams: Upstreams;
  /** To inspectors. */
  readonly egress: Pick<Egress, "send">;
  readonly admissions: Admissions;
  readonly breakers: Breakers;
  readonly log: Log;
  readonly metrics: Metrics;
  /**
   * Whoever presents a token of ours for this audience.
   *
   * @throws {InvalidTokenError | InvalidDpopProofError} recorded
   */
  readonly holder: (presented: Presented, audience: string) => Promise<Holder>;
  /** To be asked before anything but the gate says no: a holder's token may have ended since it was first seen. */
  readonly stillLives: (holder: Holder) => Promise<boolean>;
}
