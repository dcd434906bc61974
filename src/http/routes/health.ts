import { z } from "zod";
import { liveAnswer, readyAnswer } from "../../api/health.ts";
import { ProblemError } from "../../api/problem.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

/** For load balancers and Prometheus. */
export const healthRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/livez",
    operationId: "livez",
    summary: "Whether the process runs",
    tag: "Health",
    auth: "none",
    responses: { 200: { description: "It does.", body: liveAnswer } },
    handle: () => ok({ status: "ok" }),
  }),
  route({
    method: "GET",
    path: "/readyz",
    operationId: "readyz",
    summary: "Whether this replica can serve",
    tag: "Health",
    auth: "none",
    responses: {
      200: { description: "It can.", body: readyAnswer },
      503: { description: "It cannot; `checks` says what it waits for.", body: readyAnswer },
    },
    async handle({ rooms, house }) {
      const checks = { ...(await rooms.readiness()), serving: !house.isStopping() };
      const isReady = Object.values(checks).every(Boolean);
      return { status: isReady ? 200 : 503, json: { status: isReady ? "ready" : "not_ready", checks } };
    },
  }),
  route({
    method: "GET",
    path: "/metrics",
    operationId: "metrics",
    summary: "Metrics for Prometheus",
    description: "Answers this machine only, and nobody where metrics have a listener of their own.",
    tag: "Health",
    auth: "none",
    responses: {
      200: { description: "Prometheus text.", body: z.string(), contentType: "text/plain" },
      404: { description: "Asked from elsewhere." },
    },
    async handle({ house, request }) {
      if (house.hasMetricsListener || !request.isLocal) throw new ProblemError("not_found");
      return {
        status: 200,
        text: await house.metrics.render(),
        headers: { "Content-Type": house.metrics.contentType },
      };
    },
  }),
];
