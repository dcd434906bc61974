import { z } from "zod";
import { vended } from "../../api/credentials.ts";
import { objectName } from "../../api/scalars.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

/** Downstream credentials, for whoever holds a token for the resource (CONTRACT §7). */
export const credentialRoutes: readonly Route[] = [
  route({
    method: "POST",
    path: "/credentials/{resource}",
    operationId: "vendCredential",
    summary: "Vend a downstream credential",
    description:
      "With a token for this resource and the scope `<resource>:vend`, as Bearer or DPoP. The credential is made for this " +
      "task, carries its names, and is ended with its lease, its task or a kill, whichever is first.",
    tag: "Credentials",
    auth: "holder",
    params: z.strictObject({ resource: objectName }),
    responses: {
      200: { description: "The credential; shown once.", body: vended },
      400: { description: "The request is malformed, or its proof is bad." },
      401: { description: "The token is missing, bad, killed, or for something else." },
      403: { description: "Not granted, or the provider cannot bound it as the grant asks." },
      503: { description: "The upstream or the database is away; nothing was handed out." },
    },
    async handle({ rooms, params, request }) {
      const { vended: credential, released } = await rooms.credentials.vend(params.resource, request);
      return { ...ok(credential), released };
    },
  }),
];
