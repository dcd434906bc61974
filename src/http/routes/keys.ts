import { rotateAnswer, rotateRequest } from "../../api/keys.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

/** Our own signing keys. */
export const keyRoutes: readonly Route[] = [
  route({
    method: "POST",
    path: "/v1/keys/rotate",
    operationId: "rotateKeys",
    summary: "Rotate the token keys now",
    description:
      "The next key becomes the active one; the retired one verifies until the last token it signed has expired.",
    tag: "Keys",
    auth: "operator",
    body: rotateRequest,
    isBodyOptional: true,
    responses: { 200: { description: "The keys as they are now.", body: rotateAnswer } },
    handle: async ({ rooms, body, caller, request }) =>
      ok(await rooms.keys.rotate({ reason: (body as { reason?: string } | undefined)?.reason }, { caller, request })),
  }),
];
