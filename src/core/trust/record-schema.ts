import { z } from "zod";
import { readRedactPath, type RedactPath } from "../redaction.ts";
import type { Resource } from "./model.ts";
import { durationSeconds, durationValue } from "./values.ts";

/** How long a recording is kept where the resource does not say. */
const KEEP = "30d";
/** Paths of one resource. */
const MAX_PATHS = 64;

/** What is kept of a resource's calls. */
export interface RecordRule {
  /** `bodies` are arguments and answers. */
  readonly what: "arguments" | "bodies";
  readonly redact: readonly RedactPath[];
  readonly keepSeconds: number;
}

const whatValue = z.enum(["arguments", "bodies"]);

const pathValue = z
  .string()
  .max(512)
  .refine((text) => readRedactPath(text) !== undefined, {
    error: "must be a path like /arguments/password, with * for one step and ** for any number of them, not at its end",
  })
  .refine((text) => /^\/(?:arguments|answer|\*\*?)(?:\/|$)/.test(text), {
    error: "must begin with /arguments, /answer, /* or /**",
  });

/** `record` of an `http` or `mcp` resource. */
export const recordValue = z.union([
  whatValue,
  z
    .strictObject({
      what: whatValue,
      redact: z.array(pathValue).max(MAX_PATHS).optional(),
      keep: durationValue.optional(),
    })
    .superRefine(({ what, redact = [] }, context) => {
      for (const [at, path] of redact.entries())
        if (what === "arguments" && path.startsWith("/answer"))
          context.addIssue({
            code: "custom",
            path: ["redact", at],
            message: "means nothing where only arguments are kept",
            params: { mend: "take it out, or say what: bodies" },
          });
    }),
]);

type Wire = z.infer<typeof recordValue>;

const compiled = new WeakMap<Resource, RecordRule | false>();

/** What is kept of a resource's calls, compiled once for as long as it stays as it is; undefined: nothing. */
export function recordRuleOf(resource: Resource): RecordRule | undefined {
  let made = compiled.get(resource);
  if (made === undefined) {
    made = compile("settings" in resource ? (resource.settings["record"] as Wire | undefined) : undefined) ?? false;
    compiled.set(resource, made);
  }
  return made || undefined;
}

function compile(wire: Wire | undefined): RecordRule | undefined {
  if (wire === undefined) return undefined;
  const { what, redact = [], keep = KEEP } = typeof wire === "string" ? { what: wire } : wire;
  return {
    what,
    // The schema took each of them.
    redact: redact.map((text) => readRedactPath(text) ?? []),
    keepSeconds: durationSeconds(keep),
  };
}
