import { z } from "zod";
import { feedFrame, feedQuery } from "../../api/revocations.ts";
import { LIMITS } from "../limits.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

const EVENT_STREAM = "text/event-stream";

/** The feed of kills for tool servers (CONTRACT §6). */
export const revocationRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/v1/revocations",
    operationId: "followRevocations",
    summary: "What was killed, for whoever verifies tokens of a resource",
    description:
      "With `Accept: text/event-stream` events named `frame`, whose id is `seq` (resume with `Last-Event-ID`), at least one a second; a client that leaves one unread for 30 seconds is cut, and misses nothing when it resumes. Else one frame as JSON. Authenticates like `/introspect`: a resource's name and secret, or the platform's token of an agent that introspects.",
    tag: "Kill",
    auth: "client",
    query: feedQuery,
    responses: { 200: { description: "One frame; or a stream of them.", body: feedFrame } },
    async handle({ rooms, query, request }) {
      const isStream = (request.accept ?? "").split(",").some((type) => type.split(";")[0]?.trim() === EVENT_STREAM);
      if (!isStream) return ok(await rooms.revocations.frame(query, request));
      const after = query.after ?? placeOf(request.lastEventId);
      return {
        status: 200,
        lines: await rooms.revocations.frames({ ...query, after }, request),
        unreadMs: LIMITS.feedUnreadMs,
        headers: { "Content-Type": EVENT_STREAM, "X-Accel-Buffering": "no" },
      };
    },
  }),
];

const place = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number);

/** What is no place of ours is none: the stream begins at the beginning. */
function placeOf(lastEventId: string | undefined): number | undefined {
  return place.safeParse(lastEventId).data;
}
