import { z } from "zod";
import { applyAnswer, applyRequest } from "../../api/apply.ts";
import { ProblemError } from "../../api/problem.ts";
import { objectName } from "../../api/scalars.ts";
import {
  agentStatusRequest,
  MAX_PAGE,
  trustDeleted,
  trustKinds,
  trustObject,
  trustPage,
  trustPageQuery,
  trustSpecs,
} from "../../api/trust-objects.ts";
import { LIMITS } from "../limits.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

const params = z.strictObject({ name: objectName });
const NOT_FOUND = { description: "There is none by this name." };

/** What an object may hold is checked by `core/trust`, which says where and how to mend it; here it only has to be an object. */
const anySpec = z.record(z.string(), z.unknown());

type Kind = (typeof trustKinds)[number];

/** `agents` → `Agent`. */
const nameOf = (kind: Kind): string => kind.charAt(0).toUpperCase() + kind.slice(1, -1);

const REMOVALS: Readonly<Partial<Record<Kind, string>>> = {
  grants: "Take a grant away",
  operators: "Remove an operator: their next request is refused",
  channels: "Remove a channel: nothing is asked or decided there any more",
};

/** More about the writing of a kind, where there is more. */
const NOTES: Readonly<Partial<Record<Kind, string>>> = {
  operators: " With the operator key only.",
  channels: " With the operator key only.",
};

function readRoutes(kind: Kind): readonly Route[] {
  return [
    route({
      method: "GET",
      path: `/v1/${kind}`,
      operationId: `list${nameOf(kind)}s`,
      summary: `List ${kind}`,
      tag: "Trust",
      auth: { scope: "read" },
      query: trustPageQuery,
      responses: { 200: { description: "In the order of their names.", body: trustPage } },
      handle: async ({ rooms, query }) =>
        ok(await rooms.registry.list(kind, { after: query.after, limit: query.limit ?? MAX_PAGE })),
    }),
    route({
      method: "GET",
      path: `/v1/${kind}/{name}`,
      operationId: `get${nameOf(kind)}`,
      summary: `Read one of the ${kind}`,
      tag: "Trust",
      auth: { scope: "read" },
      params,
      responses: { 200: { description: "As it was given.", body: trustObject }, 404: NOT_FOUND },
      async handle({ rooms, params: { name } }) {
        const object = await rooms.registry.get(kind, name);
        if (object === undefined) throw new ProblemError("not_found");
        return ok(object);
      },
    }),
  ];
}

function writeRoutes(kind: Kind): readonly Route[] {
  const common = { path: `/v1/${kind}/{name}`, tag: "Trust", auth: { scope: "trust" }, params } as const;
  return [
    route({
      ...common,
      method: "PUT",
      operationId: `put${nameOf(kind)}`,
      summary: `Make or replace one of the ${kind}`,
      description: `The body is what the trust file holds under this name.${NOTES[kind] ?? ""}`,
      body: anySpec,
      bodyDocument: trustSpecs[kind],
      responses: {
        200: { description: "It was replaced.", body: trustObject },
        201: { description: "It was made.", body: trustObject },
        409: { description: "It belongs to an applied file." },
        422: { description: "It cannot be trusted so; `errors` says what and how to mend it." },
      },
      async handle({ rooms, params: { name }, body, caller, request }) {
        const { object, isNew } = await rooms.registry.put({ kind, name, spec: body }, { caller, request });
        return { status: isNew ? 201 : 200, json: object };
      },
    }),
    route({
      ...common,
      method: "DELETE",
      operationId: `delete${nameOf(kind)}`,
      summary: REMOVALS[kind] ?? `Remove one of the ${kind}; that is a kill of it`,
      responses: { 200: { description: "It is gone.", body: trustDeleted }, 404: NOT_FOUND },
      async handle({ rooms, params: { name }, caller, request }) {
        const deleted = await rooms.registry.delete({ kind, name }, { caller, request });
        if (deleted === undefined) throw new ProblemError("not_found");
        return ok(deleted);
      },
    }),
  ];
}

/** Issuers, agents, resources, grants and operators, one by one or by a whole file (CONTRACT §4). */
export const trustRoutes: readonly Route[] = [
  ...trustKinds.flatMap((kind) => [...readRoutes(kind), ...writeRoutes(kind)]),
  route({
    method: "PUT",
    path: "/v1/agents/{name}/status",
    operationId: "setAgentStatus",
    summary: "Suspend an agent, or end that",
    description: "Survives every apply. Not a kill: what the agent holds lives on until it expires.",
    tag: "Trust",
    auth: { scope: "trust" },
    params,
    body: agentStatusRequest,
    responses: { 200: { description: "The agent.", body: trustObject }, 404: NOT_FOUND },
    async handle({ rooms, params: { name }, body, caller, request }) {
      const agent = await rooms.registry.setAgentStatus({ ...body, name }, { caller, request });
      if (agent === undefined) throw new ProblemError("not_found");
      return ok(agent);
    },
  }),
  route({
    method: "POST",
    path: "/v1/apply",
    operationId: "applyTrustFile",
    summary: "Plan or apply a trust file",
    description:
      "All or nothing. The source owns only the objects it made; removing an agent, issuer or resource is a kill of it. Where it takes something away it is answered when no replica releases anything more by it.",
    tag: "Trust",
    auth: { scope: "trust" },
    body: applyRequest,
    maxBodyBytes: LIMITS.applyBytes,
    responses: {
      200: { description: "The plan, or what was done.", body: applyAnswer },
      409: { description: "Superseded, or an object belongs to another source." },
      422: { description: "The file is refused; `errors` says where, why and how to mend it." },
    },
    handle: async ({ rooms, body, caller, request }) => ok(await rooms.registry.apply(body, { caller, request })),
  }),
];
