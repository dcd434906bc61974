import type { TaskCompleted } from "../api/tasks.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { TaskNotFoundError } from "./not-found.ts";

interface Row {
  opener: string;
  sub: string;
  task_ended_at: number | null;
  id: string;
  ended_at: number | null;
}

/** What `ephor.end_task` says. */
interface Ended {
  readonly outcome: "ended" | "already" | "task_unknown";
  readonly nodes?: readonly string[];
}

const OWN_NODES = `
  select t.opener, t.sub, t.ended_at as task_ended_at, n.id, n.ended_at
  from ephor.tasks t join ephor.nodes n on n.txn = t.txn
  where t.txn = $1 and n.agent = $2 order by cardinality(n.path), n.id`;

/**
 * Ends a task: all of it when its opener asks, else the asking agent's own places and all below them. When it has answered,
 * nothing more is released there. Ending what has ended changes nothing and is no error.
 *
 * @throws {TaskNotFoundError} `task_unknown`, which is recorded; the same for a task in which the agent has no place
 */
export async function completeTask(
  deps: { db: Db; clock: DatabaseClock; recorder: Recorder },
  asked: { txn: string; agent: string; requestId?: string | undefined; traceId?: string | undefined },
): Promise<TaskCompleted> {
  const { db, clock, recorder } = deps;
  const { txn, agent, requestId, traceId } = asked;
  const rows = await db.query<Row>(OWN_NODES, [txn, agent]);
  const [first] = rows;
  if (!first) {
    await recorder.refused({ type: "task.end", agent, txn, requestId, traceId, facts: {} }, "task_unknown");
    throw new TaskNotFoundError("task_unknown");
  }

  async function end(node: string | null): Promise<readonly string[]> {
    const event = recorder.draft(
      {
        type: "task.end",
        agent,
        sub: first?.sub,
        txn,
        requestId,
        traceId,
        facts: { ended: node === null ? "task" : "node", node: node ?? undefined },
      },
      "granted",
    );
    const [row] = await db.query<{ r: Ended }>("select ephor.end_task($1, $2, $3, $4, $5::jsonb) as r", [
      Math.floor(clock.nowMs()),
      txn,
      node,
      agent,
      JSON.stringify(event),
    ]);
    return row?.r.nodes ?? [];
  }

  if (first.opener === agent) {
    if (first.task_ended_at === null) await end(null);
    return { txn, ended: "task" };
  }
  // From the top: what lies below one of the agent's own places ends with it.
  const ended = new Set<string>();
  for (const row of rows) {
    if (row.ended_at !== null || row.task_ended_at !== null || ended.has(row.id)) continue;
    for (const id of await end(row.id)) ended.add(id);
  }
  return { txn, ended: "nodes", nodes: [...ended] };
}
