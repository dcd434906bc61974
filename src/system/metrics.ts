import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

/**
 * What Prometheus reads. Every metric of the program is named here, once; label values come from closed lists, never from
 * a request, so that a stranger cannot make series.
 *
 * @see https://prometheus.io/docs/practices/naming/
 */
export interface Metrics {
  /** `grant`: short name of the grant type, or `none`; `result`: `granted` or `refused`. */
  readonly tokenRequests: Counter<"grant" | "result">;
  /** `result`: `active`, `inactive` or `refused`. */
  readonly introspections: Counter<"result">;
  /** `reason` of the closed list of `core/oauth/reasons`. */
  readonly refusals: Counter<"reason">;
  readonly kills: Counter<"kind">;
  /**
   * `issuer`: its name in trust, or `none` where nothing was proved; `event`: short name, `other` or `none`; `outcome`: `killed`,
   * `sessions`, `lifted`, `not_lifted`, `recorded`, `repeated`, `refused` or `failed`.
   */
  readonly signalsReceived: Counter<"issuer" | "event" | "outcome">;
  /** Requests that one statement of the gate carried. */
  readonly gateBatchSize: Histogram<string>;
  /** Seconds from asking the gate to its answer. */
  readonly gateSeconds: Histogram<string>;
  /** `outcome`: `granted`, `killed`, `task_ended`, `replayed`, `stale`, `pin_moved`, `failed`. */
  readonly gateOutcomes: Counter<"outcome">;
  /** Seconds from the request's head to its answer. `route` is the pattern. */
  readonly httpRequestSeconds: Histogram<"route" | "status">;
  readonly httpInFlight: Gauge<string>;
  /** `resource`: its name in trust; `outcome`: `done`, `aborted`, `upstream_error`, or `cut_` and why. */
  readonly proxiedCalls: Counter<"resource" | "outcome">;
  /** Seconds from a call's leaving to the end of its answer. */
  readonly proxiedSeconds: Histogram<"resource">;
  /** `outcome`: `allow`, `redact`, `refuse` or `failed`. */
  readonly inspections: Counter<"resource" | "outcome">;
  /** 1 while this replica refuses calls to an upstream that nobody answers at, 0 once it was there again. */
  readonly upstreamOpen: Gauge<"resource">;
  /** Answers that are being relayed. */
  readonly proxiedStreams: Gauge<string>;
  /** Streams of the feed of kills that this replica serves. */
  readonly feedReaders: Gauge<string>;
  /** Calls that this replica holds until somebody decides. */
  readonly waitingCalls: Gauge<string>;
  /** MCP servers that this replica started and that run. */
  readonly localServers: Gauge<string>;
  /** `result`: `ok`, or the kind of the egress error. */
  readonly issuerFetches: Counter<"result">;
  readonly signatureMemoHits: Counter<string>;
  readonly signatureMemoMisses: Counter<string>;
  readonly trustVersion: Gauge<string>;
  /** Milliseconds would be a unit of their own; Prometheus wants seconds. */
  readonly clockSkewSeconds: Gauge<string>;
  /** Vended credentials that have not ended. `status`: `intent`, `live` or `ending`. The same on every replica. */
  readonly leasesOpen: Gauge<"status">;
  /** Of these, those that could not be ended for a while: somebody must look. */
  readonly leasesStuck: Gauge<string>;
  readonly leasesOldestSeconds: Gauge<string>;
  /** Seconds from asking for the canary's kill to the first refusal. `point`: `exchange`, `introspection`, `vend`, `proxy`, `stream` or `feed`. */
  readonly killToDenySeconds: Histogram<"point">;
  /** `point`: where something was allowed after the kill's answer; `run`: the canary could not measure. */
  readonly canaryFailures: Counter<"point">;
  /** Of the last turn in which all points refused, or of the start; 0 where the canary is off. */
  readonly canaryLastSuccess: Gauge<string>;
  /** Security events by what became of them. `method`: `push` or `poll`; `outcome`: `delivered`, `refused` or `retried`. */
  readonly ssfEvents: Counter<"method" | "outcome">;
  /** Security events that wait for their receivers. The same on every replica. */
  readonly ssfUndelivered: Gauge<string>;
  readonly ssfOldestSeconds: Gauge<string>;
  /** Streams whose pushes have failed for a minute: somebody must look. */
  readonly ssfStuck: Gauge<string>;
  /** What channels were told of approvals: `sent`, `refused`, `retried`. */
  readonly channelMessages: Counter<"outcome">;
  /** Questions that no channel was shown yet. The same on every replica. */
  readonly channelUntold: Gauge<string>;
  /** Channels that have taken nothing for a minute: somebody must look. */
  readonly channelsStuck: Gauge<string>;
  /** Requests at the addresses of channels: `heard`, `refused`, `failed`. */
  readonly hooksReceived: Counter<"kind" | "outcome">;
  /** 1 while this replica may release. */
  readonly replicaLive: Gauge<string>;
  /** Says which resources there are: series of others, which were removed, go at the next reading. */
  nameResources(isKnown: (resource: string) => boolean): void;
  /** The text of all metrics, as Prometheus reads it. */
  render(): Promise<string>;
  /** For the header of that text. */
  readonly contentType: string;
}

/** Bounds in seconds: from what a memo can do to what a client will wait for. */
const REQUEST_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
/** Bounds in seconds: to the 59 s that a token lives, and no relayed answer longer. */
const CALL_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** Batch sizes: powers of two up to what the gate takes at once. */
const BATCH_BUCKETS = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/**
 * @param options `version` goes into `ephor_build_info`; `process` adds Node's own metrics (event loop, heap, handles);
 * `droppedLogLines` tells how many log lines were dropped so far
 * @returns a registry of its own, so that two servers in one process do not share numbers
 */
export function createMetrics(options: {
  version: string;
  process?: boolean;
  droppedLogLines?: () => number;
}): Metrics {
  const registry = new Registry();
  const registers = [registry];
  if (options.process === true) collectDefaultMetrics({ register: registry });
  const { counter, gauge, histogram } = makers(registers);
  const seconds = { labelNames: [], buckets: REQUEST_BUCKETS };
  new Gauge({ name: "ephor_build_info", help: "Always 1; the version is a label.", labelNames: ["version"], registers })
    .labels(options.version)
    .set(1);
  countDropped(registers, options.droppedLogLines ?? (() => 0));
  const perResource = resourceMetrics(registers);
  let isKnown: (resource: string) => boolean = () => true;
  return {
    tokenRequests: counter("ephor_token_requests_total", "Requests at the token endpoint.", ["grant", "result"]),
    introspections: counter("ephor_introspections_total", "Requests at the introspection endpoint.", ["result"]),
    refusals: counter("ephor_refusals_total", "Refusals by inner reason.", ["reason"]),
    kills: counter("ephor_kills_total", "Kills by what they named.", ["kind"]),
    signalsReceived: counter("ephor_signals_received_total", "Security events of identity providers.", [
      "issuer",
      "event",
      "outcome",
    ]),
    gateBatchSize: histogram("ephor_gate_batch_size", "Requests that one statement of the gate carried.", {
      labelNames: [],
      buckets: BATCH_BUCKETS,
    }),
    gateSeconds: histogram("ephor_gate_seconds", "Seconds from asking the gate to its answer.", seconds),
    gateOutcomes: counter("ephor_gate_outcomes_total", "What the gate answered.", ["outcome"]),
    httpRequestSeconds: histogram("ephor_http_request_seconds", "Seconds from a request's head to its answer.", {
      labelNames: ["route", "status"],
      buckets: REQUEST_BUCKETS,
    }),
    httpInFlight: gauge("ephor_http_requests_in_flight", "Requests that were accepted and not yet answered."),
    ...perResource,
    proxiedStreams: gauge("ephor_proxied_streams", "Answers of upstreams that are being relayed."),
    feedReaders: gauge("ephor_feed_readers", "Streams of the feed of kills that are being served."),
    waitingCalls: gauge("ephor_waiting_calls", "Calls that wait for an approval."),
    localServers: gauge("ephor_local_servers", "Local MCP servers that this replica started and that run."),
    issuerFetches: counter("ephor_issuer_fetch_total", "Fetches of issuers' documents and keys.", ["result"]),
    signatureMemoHits: counter("ephor_signature_memo_hits_total", "Signatures known to be good.", []),
    signatureMemoMisses: counter("ephor_signature_memo_misses_total", "Signatures that were computed.", []),
    trustVersion: gauge("ephor_trust_version", "Version of the trust state this replica decides by."),
    clockSkewSeconds: gauge("ephor_clock_skew_seconds", "Distance of this machine's clock from the database's."),
    leasesOpen: new Gauge({
      name: "ephor_leases_open",
      help: "Vended credentials that have not ended, in the whole installation.",
      labelNames: ["status"],
      registers,
    }),
    leasesStuck: gauge("ephor_leases_stuck", "Vended credentials that could not be ended for a while."),
    leasesOldestSeconds: gauge(
      "ephor_leases_oldest_seconds",
      "Age of the oldest vended credential that has not ended.",
    ),
    ...killMetrics(registers),
    ...channelMetrics(registers),
    replicaLive: gauge("ephor_replica_live", "1 while this replica may release."),
    nameResources(how) {
      isKnown = how;
    },
    async render() {
      for (const metric of Object.values(perResource)) await forget(metric, isKnown);
      return await registry.metrics();
    },
    contentType: registry.contentType,
  };
}

/** Read when it is asked for: whoever drops lines knows no metrics. */
function countDropped(registers: Registry[], dropped: () => number): Counter {
  let counted = 0;
  return new Counter({
    name: "ephor_log_lines_dropped_total",
    help: "Log lines that could not be written.",
    registers,
    collect() {
      const now = dropped();
      this.inc(now - counted);
      counted = now;
    },
  });
}

/** What makes a metric of a registry. */
function makers(registers: Registry[]) {
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> =>
    new Counter({ name, help, labelNames, registers });
  const gauge = (name: string, help: string): Gauge<string> => new Gauge({ name, help, registers });
  const histogram = <L extends string>(
    name: string,
    help: string,
    shape: { labelNames: readonly L[]; buckets: number[] },
  ): Histogram<L> => new Histogram({ name, help, ...shape, registers });
  return { counter, gauge, histogram };
}

/** Whether kills work, and whether others are told of them. */
function killMetrics(registers: Registry[]) {
  const { counter, gauge, histogram } = makers(registers);
  return {
    killToDenySeconds: histogram("ephor_kill_to_deny_seconds", "Seconds from the canary's kill to the refusal.", {
      labelNames: ["point"],
      buckets: REQUEST_BUCKETS,
    }),
    canaryFailures: counter("ephor_canary_failures_total", "Canaries that were allowed after their kill, or not run.", [
      "point",
    ]),
    canaryLastSuccess: gauge("ephor_canary_last_success_timestamp_seconds", "When the canary last saw a kill work."),
    ssfEvents: counter("ephor_ssf_events_total", "Security events by what became of them.", ["method", "outcome"]),
    ssfUndelivered: gauge("ephor_ssf_undelivered", "Security events that wait for their receivers."),
    ssfOldestSeconds: gauge("ephor_ssf_oldest_seconds", "Age of the oldest security event that waits."),
    ssfStuck: gauge("ephor_ssf_streams_stuck", "Streams whose pushes have failed for a minute."),
  };
}

/** Approvals at channels. */
function channelMetrics(registers: Registry[]) {
  const { counter, gauge } = makers(registers);
  return {
    channelMessages: counter("ephor_channel_messages_total", "What channels were told of approvals.", ["outcome"]),
    channelUntold: gauge("ephor_channel_untold", "Questions that no channel was shown yet."),
    channelsStuck: gauge("ephor_channels_stuck", "Channels that have taken nothing for a minute."),
    hooksReceived: counter("ephor_hooks_received_total", "What channels sent.", ["kind", "outcome"]),
  };
}

/** What has a series for each resource. */
function resourceMetrics(registers: Registry[]) {
  const { counter, histogram } = makers(registers);
  return {
    proxiedCalls: counter("ephor_proxied_calls_total", "Calls that went to an upstream, by how they ended.", [
      "resource",
      "outcome",
    ]),
    proxiedSeconds: histogram("ephor_proxied_seconds", "Seconds from a call's leaving to the end of its answer.", {
      labelNames: ["resource"],
      buckets: CALL_BUCKETS,
    }),
    inspections: counter(
      "ephor_inspections_total",
      "Calls and answers that were inspected, by what was said of them.",
      ["resource", "outcome"],
    ),
    upstreamOpen: new Gauge({
      name: "ephor_upstream_open",
      help: "1 while calls to an upstream are refused because nobody answers there.",
      labelNames: ["resource"],
      registers,
    }),
  };
}

/** Takes the series of what is not there any more out of a metric. */
async function forget(
  metric: Counter<"resource" | "outcome"> | Histogram<"resource"> | Gauge<"resource">,
  isKnown: (resource: string) => boolean,
): Promise<void> {
  const { values } = await metric.get();
  for (const { labels } of values) {
    const { resource, outcome } = labels as { resource?: string; outcome?: string };
    if (resource === undefined || isKnown(resource)) continue;
    metric.remove({ resource, ...(outcome !== undefined && { outcome }) });
  }
}
