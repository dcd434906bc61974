import { z } from "zod";
import { component } from "./components.ts";

/** The process runs. */
export const liveAnswer = component("Liveness", z.strictObject({ status: z.literal("ok") }));

/** Whether this replica can serve, and what it waits for. */
export const readyAnswer = component(
  "Readiness",
  z.strictObject({
    status: z.enum(["ready", "not_ready"]),
    checks: z.record(z.string(), z.boolean()),
  }),
);

/** What a replica waits for: name of a check → whether it passed. */
export type ReadinessChecks = Readonly<Record<string, boolean>>;
