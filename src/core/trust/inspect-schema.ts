import { z } from "zod";
import type { Resource } from "./model.ts";
import {
  durationSeconds,
  durationValue,
  isLoopbackUrl,
  nameValue,
  readDuration,
  readSize,
  sizeValue,
  urlValue,
} from "./values.ts";

/** The most that a resource may ask of an inspection, and what holds where it says nothing. */
const INSPECT = {
  timeout: "2s",
  /** A caller waits, and its token lives for seconds. */
  timeoutMaxSeconds: 10,
  bytes: "64KiB",
  bytesMax: 512 * 1024,
} as const;

/** Who looks at a resource's calls before they go on. */
export interface InspectRule {
  readonly url: string;
  /** Name of the secret by which requests to it are signed. */
  readonly secret: string;
  readonly request: boolean;
  readonly response: boolean;
  readonly timeoutMs: number;
  /** Whether what could not be judged goes on. */
  readonly failsOpen: boolean;
  /** Of what is judged at once. */
  readonly maxBytes: number;
  /** Private addresses are allowed. */
  readonly internal: boolean;
}

/** `inspect` of an `http` or `mcp` resource. */
export const inspectValue = z.strictObject({
  url: urlValue({ schemes: ["https", "http"], query: true }).refine(
    (text) => !text.startsWith("http:") || isLoopbackUrl(text),
    { error: "must be https unless it is a loopback address" },
  ),
  secret: nameValue,
  phases: z
    .array(z.enum(["request", "response"]))
    .min(1)
    .max(2)
    .optional(),
  timeout: durationValue
    .refine((text) => (readDuration(text) ?? 0) <= INSPECT.timeoutMaxSeconds, {
      error: `must be at most ${INSPECT.timeoutMaxSeconds}s`,
    })
    .optional(),
  on_error: z.enum(["refuse", "allow"]).optional(),
  max_bytes: sizeValue
    .refine((text) => (readSize(text) ?? 0) <= INSPECT.bytesMax, { error: "must be at most 512KiB" })
    .optional(),
  internal: z.boolean().optional(),
});

type Wire = z.infer<typeof inspectValue>;

/** The key that signs to an inspector is no credential of the upstream: who has one of them could use it as the other. */
export function checkInspect(
  wire: { readonly inspect?: Wire | undefined; readonly inject?: { readonly value?: string | undefined } | undefined },
  context: z.core.$RefinementCtx,
): void {
  const { inspect, inject } = wire;
  if (inspect === undefined || inject?.value?.includes(`{secret:${inspect.secret}}`) !== true) return;
  context.addIssue({
    code: "custom",
    path: ["inspect", "secret"],
    message: "is the upstream's credential",
    params: { mend: "give the inspector a secret of its own" },
  });
}

const compiled = new WeakMap<Resource, InspectRule | false>();

/** A resource's inspection, compiled once for as long as it stays as it is; undefined: none. */
export function inspectRuleOf(resource: Resource): InspectRule | undefined {
  let made = compiled.get(resource);
  if (made === undefined) {
    made = compile("settings" in resource ? (resource.settings["inspect"] as Wire | undefined) : undefined) ?? false;
    compiled.set(resource, made);
  }
  return made || undefined;
}

function compile(wire: Wire | undefined): InspectRule | undefined {
  if (wire === undefined) return undefined;
  const { url, secret, phases = ["request", "response"], timeout = INSPECT.timeout, on_error, max_bytes } = wire;
  return {
    url,
    secret,
    request: phases.includes("request"),
    response: phases.includes("response"),
    timeoutMs: durationSeconds(timeout) * 1_000,
    failsOpen: on_error === "allow",
    maxBytes: readSize(max_bytes ?? INSPECT.bytes) ?? 0,
    // A loopback address says by itself that it is meant.
    internal: wire.internal === true || isLoopbackUrl(url),
  };
}
