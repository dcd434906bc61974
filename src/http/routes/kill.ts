import { z } from "zod";
import {
  killPage,
  killReceipt,
  killRequest,
  killsQuery,
  namedIn,
  restoreAnswer,
  restoreRequest,
  type KillReceipt,
} from "../../api/kill.ts";
import { ProblemError } from "../../api/problem.ts";
import { anyId } from "../../api/scalars.ts";
import { durationSeconds } from "../../core/trust/values.ts";
import { ok, route } from "../route.ts";
import type { Answer, Route } from "../route.ts";
import type { Rooms } from "../rooms.ts";

/** The receipt as JSON, or signed where the caller asks for that and for nothing else. */
function receiptAnswer(receipt: KillReceipt, rooms: Rooms, accept: string | undefined): Answer {
  if (accept !== undefined && /(?:^|,)\s*application\/jwt\s*(?:;|,|$)/i.test(accept) && !/json|\*\/\*/i.test(accept)) {
    return { status: 200, text: rooms.kills.sign(receipt), headers: { "Content-Type": "application/jwt" } };
  }
  return ok(receipt);
}

/** Kill, its receipts, and restore (CONTRACT §6). */
export const killRoutes: readonly Route[] = [
  route({
    method: "POST",
    path: "/v1/kill",
    operationId: "kill",
    summary:
      "Kill agents, chains, tokens, leases, people's agents, issuers, resources, traces or all, now and everywhere",
    description:
      "Everything named dies together. When this has answered, no replica releases anything for it any more, also for requests that began before; " +
      "each acknowledged it, or was silent until its lease was over. " +
      "With `Accept: application/jwt` the receipt is signed.",
    tag: "Kill",
    auth: { scope: "kill" },
    body: killRequest,
    responses: { 200: { description: "The receipt.", body: killReceipt } },
    async handle({ rooms, body, caller, request }) {
      const order = {
        targets: namedIn(body),
        reason: body.reason,
        forSeconds: body.for === undefined ? undefined : durationSeconds(body.for),
        dryRun: body.dry_run === true,
      };
      return receiptAnswer(await rooms.kills.kill(order, { caller, request }), rooms, request.accept);
    },
  }),
  route({
    method: "GET",
    path: "/v1/kills",
    operationId: "listKills",
    summary: "Kills, newest first",
    tag: "Kill",
    auth: { scope: "read" },
    query: killsQuery,
    responses: { 200: { description: "A page of them.", body: killPage } },
    handle: async ({ rooms, query }) => ok(await rooms.kills.list(query)),
  }),
  route({
    method: "GET",
    path: "/v1/kills/{id}",
    operationId: "getKill",
    summary: "The receipt of a kill",
    tag: "Kill",
    auth: { scope: "read" },
    params: z.strictObject({ id: anyId }),
    responses: {
      200: { description: "The receipt as it stands now.", body: killReceipt },
      404: { description: "No such kill." },
    },
    async handle({ rooms, params, caller, request }) {
      const receipt = await rooms.kills.read(params.id, { caller, request });
      if (receipt === undefined) throw new ProblemError("not_found");
      return receiptAnswer(receipt, rooms, request.accept);
    },
  }),
  route({
    method: "POST",
    path: "/v1/restore",
    operationId: "restore",
    summary: "Lift kills of agents, subjects, issuers, resources, owners, or of all",
    description: "Nothing that was issued before the kill comes back.",
    tag: "Kill",
    auth: { scope: "restore" },
    body: restoreRequest,
    responses: { 200: { description: "They may work again.", body: restoreAnswer } },
    handle: async ({ rooms, body, caller, request }) =>
      ok(await rooms.kills.restore({ targets: namedIn(body), reason: body.reason }, { caller, request })),
  }),
];
