import { z } from "zod";
import { ulidShape } from "../../api/scalars.ts";
import { taskCompleted, taskOpened, taskRequest, taskView } from "../../api/tasks.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

const params = z.strictObject({ txn: ulidShape });

/** Tasks, for the agents that are in them. No grant is needed (CONTRACT §5). */
export const taskRoutes: readonly Route[] = [
  route({
    method: "POST",
    path: "/v1/tasks",
    operationId: "openTask",
    summary: "Open a task",
    description:
      "The agent proves itself by its own workload token, a `private_key_jwt` assertion or a token for this API, as Bearer.",
    tag: "Tasks",
    auth: "agent",
    body: taskRequest,
    responses: { 201: { description: "It is open. Use `txn` as the task handle at `/token`.", body: taskOpened } },
    async handle({ rooms, body, caller, request }) {
      const task = await rooms.tasks.open(body, { caller, request });
      return { status: 201, json: task, headers: { Location: `/v1/tasks/${task.txn}` } };
    },
  }),
  route({
    method: "GET",
    path: "/v1/tasks/{txn}",
    operationId: "getTask",
    summary: "Read a task one is in",
    tag: "Tasks",
    auth: "agent",
    params,
    responses: { 200: { description: "The task.", body: taskView }, 404: { description: "No task of yours." } },
    handle: async ({ rooms, params: { txn }, caller, request }) => ok(await rooms.tasks.read(txn, { caller, request })),
  }),
  route({
    method: "POST",
    path: "/v1/tasks/{txn}/complete",
    operationId: "completeTask",
    summary: "End a task, or one's own part of it",
    description: "The opener ends all of it, another member its own subtree. Ending twice is no error.",
    tag: "Tasks",
    auth: "agent",
    params,
    responses: { 200: { description: "What ended.", body: taskCompleted }, 404: { description: "No task of yours." } },
    handle: async ({ rooms, params: { txn }, caller, request }) =>
      ok(await rooms.tasks.complete(txn, { caller, request })),
  }),
];
