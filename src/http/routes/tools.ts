import { z } from "zod";
import { ProblemError } from "../../api/problem.ts";
import { objectName } from "../../api/scalars.ts";
import { toolPage, toolQuery, toolsAccepted, toolsAcceptRequest } from "../../api/tools.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

const params = z.strictObject({ name: objectName });

/** Pinned definitions of MCP servers' tools (CONTRACT §8). */
export const toolRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/v1/resources/{name}/tools",
    operationId: "listTools",
    summary: "Tools of an MCP resource: pinned, changed, new",
    description: "Names and definitions are the server's text; show them as such.",
    tag: "Trust",
    auth: { scope: "read" },
    params,
    query: toolQuery,
    responses: {
      200: { description: "In the order of their names.", body: toolPage },
      404: { description: "No such MCP resource, or no such tool." },
    },
    async handle({ rooms, params: { name }, query }) {
      const page = await rooms.tools.list(name, query.tool);
      if (page === undefined) throw new ProblemError("not_found");
      return ok(page);
    },
  }),
  route({
    method: "POST",
    path: "/v1/resources/{name}/tools/accept",
    operationId: "acceptTools",
    summary: "Accept a tool as it was last seen",
    tag: "Trust",
    auth: { scope: "trust" },
    params,
    body: toolsAcceptRequest,
    responses: {
      200: { description: "These can be called from now on.", body: toolsAccepted },
      404: { description: "No such MCP resource, or no such tool." },
      409: { description: "It was changed again since you looked." },
      422: { description: "What was seen cannot be accepted; the list says why." },
    },
    async handle({ rooms, params: { name }, body, caller, request }) {
      const accepted = await rooms.tools.accept(name, body, { caller, request });
      if (accepted === undefined) throw new ProblemError("not_found");
      return ok(accepted);
    },
  }),
];
