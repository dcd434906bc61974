import { rewrapAnswer, rewrapRequest, rotateAnswer, rotateRequest } from "../../api/keys.ts";
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
  route({
    method: "POST",
    path: "/v1/keys/rewrap",
    operationId: "rewrapKeys",
    summary: "Put what is sealed under the present key-encryption key",
    description:
      "After `kek` was changed and the key before it named as `kek_previous`. Nothing is opened by it, and nothing that uses " +
      "a secret waits for it. One request does what it can in a few seconds: repeat it until `remaining` is 0.",
    tag: "Keys",
    auth: "operator",
    body: rewrapRequest,
    isBodyOptional: true,
    responses: { 200: { description: "How far it came.", body: rewrapAnswer } },
    handle: async ({ rooms, body, caller, request }) =>
      ok(await rooms.keys.rewrap({ reason: (body as { reason?: string } | undefined)?.reason }, { caller, request })),
  }),
];
