import { z } from "zod";
import { auditPage, auditQuery, auditVerdict, exportQuery } from "../../api/audit.ts";
import { chain } from "../../api/chains.ts";
import { explanation } from "../../api/decisions.ts";
import { leasePage, leaseQuery } from "../../api/leases.ts";
import { ProblemError } from "../../api/problem.ts";
import { anyId, ulidShape } from "../../api/scalars.ts";
import { whoAnswer } from "../../api/who.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

/** What happened, and who is behind it (CONTRACT §5). */
export const ledgerRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/v1/chains/{txn}",
    operationId: "getChain",
    summary: "A task with all its agents and tokens, as a tree",
    tag: "Ledger",
    auth: { scope: "read" },
    params: z.strictObject({ txn: ulidShape }),
    responses: { 200: { description: "The chain.", body: chain }, 404: { description: "No such task." } },
    async handle({ rooms, params, caller, request }) {
      const found = await rooms.ledger.chain(params.txn, { caller, request });
      if (found === undefined) throw new ProblemError("not_found");
      return ok(found);
    },
  }),
  route({
    method: "GET",
    path: "/v1/who/{id}",
    operationId: "who",
    summary: "Who is behind an id seen anywhere",
    description:
      "A `jti`, a `txn`, a trace id, a lease, or a name under which an upstream shows what was vended: an AWS access key id, role session name or session ARN, a database role, an SSH certificate's serial or key id, or the SHA-256 of a token in hex or base64. Never the token itself.",
    tag: "Ledger",
    auth: { scope: "read" },
    params: z.strictObject({ id: anyId }),
    responses: {
      200: { description: "Whatever the id names.", body: whoAnswer },
      404: { description: "Nothing that we know." },
    },
    async handle({ rooms, params, caller, request }) {
      const who = await rooms.ledger.who(params.id, { caller, request });
      if (who.matches.length === 0) throw new ProblemError("not_found");
      return ok(who);
    },
  }),
  route({
    method: "GET",
    path: "/v1/leases",
    operationId: "listLeases",
    summary: "Downstream credentials that have not ended, oldest first",
    tag: "Ledger",
    auth: { scope: "read" },
    query: leaseQuery,
    responses: { 200: { description: "A page of leases.", body: leasePage } },
    handle: async ({ rooms, query, caller, request }) => ok(await rooms.ledger.leases(query, { caller, request })),
  }),
  route({
    method: "GET",
    path: "/v1/audit",
    operationId: "queryAudit",
    summary: "Events, newest first",
    tag: "Ledger",
    auth: { scope: "audit" },
    query: auditQuery,
    responses: { 200: { description: "A page of events.", body: auditPage } },
    handle: async ({ rooms, query, caller, request }) => ok(await rooms.ledger.query(query, { caller, request })),
  }),
  route({
    method: "GET",
    path: "/v1/explain/{decision}",
    operationId: "explainDecision",
    summary: "Why a decision fell as it did, and the smallest grant that would have allowed it",
    tag: "Ledger",
    auth: { scope: "audit" },
    params: z.strictObject({ decision: anyId }),
    responses: {
      200: { description: "What was looked at, as it was then.", body: explanation },
      404: { description: "No such event." },
    },
    async handle({ rooms, params, caller, request }) {
      const found = await rooms.ledger.explain(params.decision, { caller, request });
      if (found === undefined) throw new ProblemError("not_found");
      return ok(found);
    },
  }),
  route({
    method: "GET",
    path: "/v1/audit/export",
    operationId: "exportAudit",
    summary: "Events, oldest first, one JSON object a line",
    tag: "Ledger",
    auth: { scope: "audit" },
    query: exportQuery,
    responses: { 200: { description: "NDJSON.", body: z.string(), contentType: "application/x-ndjson" } },
    handle: ({ rooms, query, caller, request }) => ({
      status: 200,
      lines: rooms.ledger.export(query, { caller, request }),
      headers: { "Content-Type": "application/x-ndjson" },
    }),
  }),
  route({
    method: "GET",
    path: "/v1/audit/verify",
    operationId: "verifyAudit",
    summary: "Check the hash chain and the signed heads",
    tag: "Ledger",
    auth: { scope: "audit" },
    responses: { 200: { description: "What was found; `ok` says whether all of it fits.", body: auditVerdict } },
    handle: async ({ rooms, caller, request }) => ok(await rooms.ledger.verify({ caller, request })),
  }),
];
