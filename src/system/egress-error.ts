/**
 * Why an outbound request brought nothing: `url` (not https, or with credentials in it), `address` (leads where it must not),
 * `redirect` (a 3xx, never followed), `too_large`, `timeout` (connecting, or a slow body), `aborted` (by the caller's signal),
 * `encoding` (the body is compressed though we asked for none), `network` (DNS, TCP, TLS or HTTP failed).
 */
export type EgressFailure =
  | "url"
  | "address"
  | "redirect"
  | "too_large"
  | "timeout"
  | "aborted"
  | "encoding"
  | "network";

/** An outbound request failed or was refused. The message names the kind only: no URL, no header, no byte of the answer. */
export class EgressError extends Error {
  readonly kind: EgressFailure;
  /** No connection came to stand: nothing was sent, and whatever was to be sent cannot be the cause. */
  readonly unreached: boolean;

  constructor(kind: EgressFailure, options: { cause?: unknown; unreached?: boolean } = {}) {
    super(`egress: ${kind}`, options);
    this.name = "EgressError";
    this.kind = kind;
    this.unreached = options.unreached ?? false;
  }
}
