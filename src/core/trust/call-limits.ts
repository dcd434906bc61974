import { z } from "zod";
import type { Resource } from "./model.ts";
import { readSize, sizeValue } from "./values.ts";

/** The most that a resource may allow one agent, and what holds where it says nothing. */
export const CALL_LIMITS = {
  /** Calls of one agent at one resource in a minute, over all replicas. No default: where nothing is said, nobody counts. */
  callsPerMinuteMax: 100_000,
  /** Calls of one agent at one resource that are in progress on one replica. */
  concurrent: 64,
  concurrentMax: 1_000,
  /** Bytes of a body that flows to an HTTP API. */
  flowBytes: 100 * 1024 * 1024,
  /** Bytes of what is read whole before it is decided on: a JSON body, a message to an MCP server. Cannot be raised. */
  readBytes: 1024 * 1024,
} as const;

/** What one agent may do at one proxied resource. */
export interface CallLimits {
  /** Undefined: as many as it likes. */
  readonly callsPerMinute: number | undefined;
  readonly concurrent: number;
  /** Bytes of a body that flows. */
  readonly flowBytes: number;
  /** Bytes of a body that is read whole. */
  readonly readBytes: number;
}

function limitsValue(bodyBytes: number, most: string) {
  return z.strictObject({
    calls_per_minute: z.int().min(1).max(CALL_LIMITS.callsPerMinuteMax).optional(),
    concurrent: z.int().min(1).max(CALL_LIMITS.concurrentMax).optional(),
    body: sizeValue
      .refine((text) => (readSize(text) ?? 0) <= bodyBytes, { error: `must be at most ${most}` })
      .optional(),
  });
}

/** `limits` of an `http` resource. */
export const httpLimitsValue = limitsValue(CALL_LIMITS.flowBytes, "100MiB");

/** `limits` of an `mcp` resource: its messages are all read whole. */
export const mcpLimitsValue = limitsValue(CALL_LIMITS.readBytes, "1MiB");

const compiled = new WeakMap<Resource, CallLimits>();

/** A resource's limits, compiled once for as long as it stays as it is. */
export function callLimitsOf(resource: Resource): CallLimits {
  let made = compiled.get(resource);
  if (made === undefined) {
    made = compile("settings" in resource ? (resource.settings["limits"] as Wire | undefined) : undefined);
    compiled.set(resource, made);
  }
  return made;
}

type Wire = z.infer<typeof httpLimitsValue>;

function compile({ calls_per_minute, concurrent, body }: Wire = {}): CallLimits {
  const bytes = body === undefined ? undefined : readSize(body);
  return {
    callsPerMinute: calls_per_minute,
    concurrent: concurrent ?? CALL_LIMITS.concurrent,
    flowBytes: bytes ?? CALL_LIMITS.flowBytes,
    readBytes: Math.min(bytes ?? CALL_LIMITS.readBytes, CALL_LIMITS.readBytes),
  };
}
