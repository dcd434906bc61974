import type { Recorder } from "../audit/recorder.ts";
import type { TaskView } from "../api/tasks.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { TaskNotFoundError } from "./not-found.ts";
import { deadSql, placeStatus } from "./state.ts";

/** Who reads a task: one of its agents, or an operator, who sees all of it. */
export type TaskReader = { readonly agent: string } | { readonly operator: string };

interface Row {
  txn: string;
  opener: string;
  sub: string;
  purpose: string | null;
  ceiling: string[] | null;
  deadline: number;
  task_ended_at: number | null;
  id: string;
  agent: string;
  path: string[];
  node_ceiling: string[] | null;
  ended_at: number | null;
  dead: boolean;
  root_dead: boolean;
}

/** Nodes that an answer lists; an agent rarely has more than one. */
const MAX_NODES = 200;

const READ = `
  select t.txn, t.opener, t.sub, t.purpose, t.ceiling, t.deadline, t.ended_at as task_ended_at,
    n.id, n.agent, n.path, n.ceiling as node_ceiling, n.ended_at, ${deadSql("n", "$2")} as dead, ${deadSql("r", "$2")} as root_dead
  from ephor.tasks t join ephor.nodes n on n.txn = t.txn join ephor.nodes r on r.id = t.txn
  where t.txn = $1 and ($3::text is null or n.agent = $3)
  order by n.made_at, n.id limit ${MAX_NODES}`;

/**
 * A task as one of its agents sees it, with that agent's own places in it; an operator sees all.
 *
 * @throws {TaskNotFoundError} `task_unknown`, which is recorded; the same for another's task
 */
export async function readTask(
  deps: { db: Db; clock: DatabaseClock; recorder: Recorder },
  asked: { txn: string; reader: TaskReader; requestId?: string | undefined },
): Promise<TaskView> {
  const { txn, reader } = asked;
  const now = deps.clock.now();
  const agent = "agent" in reader ? reader.agent : undefined;
  const rows = await deps.db.query<Row>(READ, [txn, now, agent ?? null]);
  const [task] = rows;
  if (!task) {
    const by = "agent" in reader ? reader.agent : `operator:${reader.operator}`;
    await deps.recorder.refused(
      { type: "task.read", agent: by, txn, requestId: asked.requestId, facts: {} },
      "task_unknown",
    );
    throw new TaskNotFoundError("task_unknown");
  }
  const { deadline, task_ended_at: taskEndedAt } = task;
  return {
    txn: task.txn,
    sub: task.sub,
    opener: task.opener,
    status: placeStatus({ dead: task.root_dead, endedAt: taskEndedAt, deadline }, now),
    deadline,
    scopes: task.ceiling,
    nodes: rows.map((row) => {
      const status = placeStatus({ dead: row.dead, endedAt: row.ended_at ?? taskEndedAt, deadline }, now);
      // A place has no deadline of its own: past the task's it is over.
      return {
        node: row.id,
        path: row.path,
        scopes: row.node_ceiling,
        status: status === "expired" ? "ended" : status,
      };
    }),
    ...(task.purpose !== null && { purpose: task.purpose }),
    ...(taskEndedAt !== null && { ended_at: taskEndedAt }),
  };
}
