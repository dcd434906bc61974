import { UpstreamFailure } from "../exchange.ts";
import type { RpcError } from "./message.ts";

/**
 * Why a local server brought no answer: `not_allowed` (the server's settings name no such program), `busy` (too many of them
 * run, or too many calls wait), `back_off` (it ended again and again), `session` (there is none any more), `revision` (it does
 * not speak this one), `slow_reader` (the caller leaves too much unread), `not_reading` (the server does), `cancelled` (by the caller), and how it ended:
 * `exited`, `line_too_long`, `flood` (of lines that nobody wants), `not_started`, `stopped` (by us).
 */
export type LocalServerProblem =
  | "not_allowed"
  | "busy"
  | "back_off"
  | "session"
  | "revision"
  | "slow_reader"
  | "not_reading"
  | "cancelled"
  | "exited"
  | "line_too_long"
  | "flood"
  | "not_started"
  | "stopped";

/** A local server brought no answer. */
export class LocalServerError extends UpstreamFailure {
  override readonly name = "LocalServerError";
  /** What the caller is told, where there is more to say than that it failed. */
  readonly rpc: RpcError | undefined;

  constructor(problem: LocalServerProblem, options: { rpc?: RpcError; cause?: unknown } = {}) {
    super(problem, { cause: options.cause });
    this.rpc = options.rpc;
  }
}
