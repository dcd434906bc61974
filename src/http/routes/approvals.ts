import { z } from "zod";
import { approvalDecision, approvalPage, approvalQuery, approvalView } from "../../api/approvals.ts";
import { ProblemError } from "../../api/problem.ts";
import { anyId } from "../../api/scalars.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

const params = z.strictObject({ id: anyId });

/** Calls that wait for somebody (CONTRACT §8 "Approval"). Looking decides nothing. */
export const approvalRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/v1/approvals",
    operationId: "listApprovals",
    summary: "Calls that wait for an approval, newest first",
    description:
      "A reviewing agent sees those that ask it; a human without the role sees those that ask him about his own.",
    tag: "Approvals",
    auth: { scope: "approve", ownToo: true },
    query: approvalQuery,
    responses: { 200: { description: "A page of them.", body: approvalPage } },
    handle: async ({ rooms, query, caller, request }) => ok(await rooms.approvals.list(query, { caller, request })),
  }),
  route({
    method: "GET",
    path: "/v1/approvals/{id}",
    operationId: "getApproval",
    summary: "One approval, with the call and its arguments",
    tag: "Approvals",
    auth: { scope: "approve", ownToo: true },
    params,
    responses: {
      200: { description: "As it stands now.", body: approvalView },
      404: { description: "No such approval, or it asks somebody else." },
    },
    async handle({ rooms, params: { id }, caller, request }) {
      const approval = await rooms.approvals.read(id, { caller, request });
      if (approval === undefined) throw new ProblemError("not_found");
      return ok(approval);
    },
  }),
  route({
    method: "POST",
    path: "/v1/approvals/{id}",
    operationId: "decideApproval",
    summary: "Approve or deny a call",
    description:
      "Whoever asked never approves: no agent of the chain, nor the human on whose behalf the call is made, unless its grant asks just him. Once approved, the same call by the same agent in the same place works once, with whatever token, until `expires_at`.",
    tag: "Approvals",
    auth: { scope: "approve", ownToo: true },
    params,
    body: approvalDecision,
    responses: {
      200: { description: "As it stands now; `pending` where another decision is needed.", body: approvalView },
      401: { description: "`insufficient_user_authentication`: sign in again, for this is your own call (RFC 9470)." },
      403: { description: "The grant asks somebody else, or you are the one who asks." },
      404: { description: "No such approval." },
      409: { description: "Decided already, used, expired, or void." },
    },
    async handle({ rooms, params: { id }, body, caller, request }) {
      const approval = await rooms.approvals.decide({ id, ...body }, { caller, request });
      if (approval === undefined) throw new ProblemError("not_found");
      return ok(approval);
    },
  }),
];
