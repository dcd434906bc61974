import { InvalidRequestError } from "../core/oauth/errors.ts";

/** There is no such task for this caller: unknown, or another's. Both look alike (404 under `/v1`). */
export class TaskNotFoundError extends InvalidRequestError {
  constructor(reason: "task_unknown" | "task_not_member") {
    super({ reason });
  }
}
