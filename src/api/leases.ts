import { z } from "zod";
import { component } from "./components.ts";
import { anyId, epochSeconds, ulidShape } from "./scalars.ts";

/** Most leases on a page. */
export const MAX_LEASES = 500;

/** A downstream credential for as long as it lives, and what is known of it afterwards. */
export const lease = component(
  "Lease",
  z.strictObject({
    lease: z.string().describe("`lease_<ulid>`."),
    resource: z.string(),
    kind: z.string().describe("The provider that made it."),
    status: z
      .enum(["intent", "live", "ending", "ended"])
      .describe("`intent`: not released yet; `ending`: being destroyed at its upstream, or tried again and again."),
    issued_at: epochSeconds,
    ends_at: epochSeconds.describe("When it is dead at the latest, unless its upstream is away."),
    ended_at: epochSeconds.optional().describe("When its upstream confirmed that it is gone."),
    because: z
      .enum(["expired", "task_ended", "killed", "withheld", "orphan"])
      .optional()
      .describe("Why it ended or is ending."),
    upstream_expires_at: epochSeconds
      .optional()
      .describe("When its upstream lets it die by itself, where that is later."),
    problem: z.string().optional().describe("Why the last try to end it failed; it is tried for ever."),
    attempts: z.int().optional().describe("How often ending it was tried."),
    stuck_since: epochSeconds.optional().describe("When it was found that its upstream does not let it end."),
  }),
);

/** A downstream credential. */
export type Lease = z.output<typeof lease>;

/** A lease that has not ended, with who has it. */
const openLease = component("OpenLease", lease.extend({ agent: z.string(), txn: ulidShape }));

/** Which leases that have not ended. */
export const leaseQuery = z.strictObject({
  stuck: z
    .enum(["true", "false"])
    .optional()
    .describe("`true`: only those that could not be ended for a while, with the reason of the last try."),
  after: anyId.optional().describe("The id that the page starts behind."),
  limit: z.coerce.number().int().min(1).max(MAX_LEASES).optional(),
});

/** Which leases that have not ended. */
export type LeaseQuery = z.output<typeof leaseQuery>;

/** A page of leases, oldest first. */
export const leasePage = component(
  "LeasePage",
  z.strictObject({
    items: z.array(openLease),
    next: z.string().optional().describe("Pass as `after` for the next page."),
  }),
);

/** A page of leases. */
export type LeasePage = z.output<typeof leasePage>;

/** Names under which upstreams show a credential. Of a token only its SHA-256, in hex. */
export const MARK_KINDS = [
  "aws_access_key_id",
  "aws_role_session_name",
  "database_role",
  "token_sha256",
  "ssh_serial",
  "ssh_key_id",
] as const;
