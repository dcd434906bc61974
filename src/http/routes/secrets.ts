import { z } from "zod";
import { ProblemError } from "../../api/problem.ts";
import { objectName } from "../../api/scalars.ts";
import { secretFacts, secretPage, secretRequest, secretRotated } from "../../api/secrets.ts";
import { trustPageQuery } from "../../api/trust-objects.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

const params = z.strictObject({ name: objectName });
const DEFAULT_PAGE = 100;

/** Sealed secrets: values go in and never come out (CONTRACT §5, §7). */
export const secretRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/v1/secrets",
    operationId: "listSecrets",
    summary: "Secrets by name, without their values",
    tag: "Secrets",
    auth: { scope: "secrets" },
    query: trustPageQuery,
    responses: { 200: { description: "A page of them.", body: secretPage } },
    handle: async ({ rooms, query }) =>
      ok(await rooms.secrets.list({ after: query.after ?? "", limit: query.limit ?? DEFAULT_PAGE })),
  }),
  route({
    method: "GET",
    path: "/v1/secrets/{name}",
    operationId: "getSecret",
    summary: "What may be known of a secret",
    tag: "Secrets",
    auth: { scope: "secrets" },
    params,
    responses: { 200: { description: "Never its value.", body: secretFacts }, 404: { description: "No such secret." } },
    async handle({ rooms, params: { name } }) {
      const secret = await rooms.secrets.get(name);
      if (secret === undefined) throw new ProblemError("not_found");
      return ok(secret);
    },
  }),
  route({
    method: "PUT",
    path: "/v1/secrets/{name}",
    operationId: "putSecret",
    summary: "Set a secret's next version",
    tag: "Secrets",
    auth: { scope: "secrets" },
    params,
    body: secretRequest,
    responses: { 200: { description: "Sealed; leases made from now on use it.", body: secretFacts } },
    handle: async ({ rooms, params: { name }, body, caller, request }) =>
      ok(await rooms.secrets.put({ name, ...body }, { caller, request })),
  }),
  route({
    method: "POST",
    path: "/v1/secrets/{name}/rotate",
    operationId: "rotateSecret",
    summary: "Replace a secret at its upstream",
    tag: "Secrets",
    auth: { scope: "secrets" },
    params,
    responses: {
      200: { description: "The upstream takes the new value and no more the old one.", body: secretRotated },
      404: { description: "No such secret." },
      409: { description: "Resources use it at several places, or another value was set meanwhile." },
      422: { description: "What uses it cannot replace it, or the upstream did not take a new one." },
    },
    handle: async ({ rooms, params: { name }, caller, request }) =>
      ok(await rooms.secrets.rotate(name, { caller, request })),
  }),
  route({
    method: "DELETE",
    path: "/v1/secrets/{name}",
    operationId: "deleteSecret",
    summary: "Forget a secret, with all its versions",
    tag: "Secrets",
    auth: { scope: "secrets" },
    params,
    responses: { 204: { description: "It is gone." }, 404: { description: "No such secret." } },
    async handle({ rooms, params: { name }, caller, request }) {
      if (!(await rooms.secrets.remove(name, { caller, request }))) throw new ProblemError("not_found");
      return { status: 204 };
    },
  }),
];
