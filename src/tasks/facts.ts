/**
 * The room `tasks` owns what a task is, who is in it, and its end. It opens tasks through the gate, and never decides
 * whether one is still open: the gate reads that where it releases.
 */
import type { Db } from "../db/database.ts";
import { createRecent } from "../system/recent.ts";
import type { Subject } from "../core/trust/subject.ts";
import type { EpochSeconds } from "../core/time.ts";

/** What never changes about a task after its opening. */
export interface TaskFacts {
  readonly txn: string;
  readonly opener: string;
  readonly subject: Subject;
  readonly purpose: string | undefined;
  readonly ceiling: readonly string[] | null;
  readonly openedAt: EpochSeconds;
  readonly deadline: EpochSeconds;
}

/** What never changes about a node after it was made. */
export interface NodeFacts {
  readonly id: string;
  readonly txn: string;
  readonly parent: string | null;
  readonly agent: string;
  /** Agents, oldest first, this one last. */
  readonly path: readonly string[];
  readonly ceiling: readonly string[] | null;
  readonly killKeys: readonly string[];
  readonly killEpochs: readonly number[];
}

/** A hand-over token as it was recorded. */
export interface HandOverFacts {
  readonly jti: string;
  readonly txn: string;
  readonly node: string;
  readonly aud: string;
  readonly scopes: readonly string[];
  readonly killKeys: readonly string[];
  readonly killEpochs: readonly number[];
}

/** A place in a task. */
export interface Place {
  readonly task: TaskFacts;
  readonly node: NodeFacts;
}

/** Facts kept in memory; they never change, so only memory bounds this. */
const CACHE_ENTRIES = 20_000;

const TASK_COLUMNS = "t.txn, t.opener, t.subject, t.purpose, t.ceiling, t.opened_at, t.deadline";
const NODE_COLUMNS = "n.id, n.parent, n.agent, n.path, n.ceiling as node_ceiling, n.kill_keys, n.kill_epochs";

interface PlaceRow {
  txn: string;
  opener: string;
  subject: Subject;
  purpose: string | null;
  ceiling: string[] | null;
  opened_at: number;
  deadline: number;
  id: string;
  parent: string | null;
  agent: string;
  path: string[];
  node_ceiling: string[] | null;
  kill_keys: string[];
  kill_epochs: (number | string)[];
}

/** Reads places; what was read once is kept. */
export interface Places {
  /** The node with this id, in this task. */
  find(txn: string, node: string): Promise<Place | undefined>;
  /** The nodes that an agent has in a task, by id. */
  ofAgent(txn: string, agent: string): Promise<readonly Place[]>;
  handOver(jti: string): Promise<HandOverFacts | undefined>;
  /** The place that a subject token opened, by its binding's key, and the key that it came with. */
  openedBy(key: string): Promise<{ place: Place; agent: string; jkt: string | undefined } | undefined>;
  /** Notes where exchanges of an agent's own token continue, as the gate said. */
  note(opening: { key: string; agent: string; txn: string; node: string }): void;
  /**
   * Where they continue, if that was noted. It decides nothing: the gate compares it with the binding, which never changes
   * either, and says so if the token belongs elsewhere.
   */
  noted(key: string, agent: string): Promise<Place | undefined>;
}

/** @param db where tasks, nodes and hops lie */
export function createPlaces(db: Db): Places {
  const cache = createRecent<Place>(CACHE_ENTRIES);
  const openings = createRecent<{ readonly txn: string; readonly node: string }>(CACHE_ENTRIES);

  function keep(place: Place): Place {
    cache.set(place.node.id, place);
    return place;
  }

  const find: Places["find"] = async (txn, node) => {
    const known = cache.get(node);
    if (known) return known.task.txn === txn ? known : undefined;
    const [row] = await db.query<PlaceRow>(
      `select ${TASK_COLUMNS}, ${NODE_COLUMNS} from ephor.nodes n join ephor.tasks t on t.txn = n.txn where n.id = $1 and n.txn = $2`,
      [node, txn],
    );
    return row && keep(placeOf(row));
  };

  return {
    find,
    note({ key, agent, txn, node }) {
      openings.set(`${agent} ${key}`, { txn, node });
    },
    async noted(key, agent) {
      const opening = openings.get(`${agent} ${key}`);
      return opening && (await find(opening.txn, opening.node));
    },
    async openedBy(key) {
      const [row] = await db.query<{ agent: string; txn: string; node: string; jkt: string | null }>(
        "select agent, txn, node, jkt from ephor.bindings where key = $1",
        [key],
      );
      const place = row && (await find(row.txn, row.node));
      return place && { place, agent: row.agent, jkt: row.jkt ?? undefined };
    },
    async ofAgent(txn, agent) {
      const rows = await db.query<PlaceRow>(
        `select ${TASK_COLUMNS}, ${NODE_COLUMNS} from ephor.nodes n join ephor.tasks t on t.txn = n.txn
         where n.txn = $1 and n.agent = $2 order by n.id limit 2`,
        [txn, agent],
      );
      return rows.map((row) => keep(placeOf(row)));
    },
    async handOver(jti) {
      const [row] = await db.query<{
        jti: string;
        txn: string;
        node: string;
        aud: string;
        scopes: string[];
        kill_keys: string[];
        kill_epochs: (number | string)[];
      }>(
        "select jti, txn, node, aud, scopes, kill_keys, kill_epochs from ephor.hops where jti = $1 and kind = 'hand_over'",
        [jti],
      );
      if (!row) return undefined;
      const { kill_keys: killKeys, kill_epochs: killEpochs, ...rest } = row;
      return { ...rest, killKeys, killEpochs: killEpochs.map(Number) };
    },
  };
}

function placeOf(row: PlaceRow): Place {
  return {
    task: {
      txn: row.txn,
      opener: row.opener,
      subject: row.subject,
      purpose: row.purpose ?? undefined,
      ceiling: row.ceiling,
      openedAt: row.opened_at,
      deadline: row.deadline,
    },
    node: {
      id: row.id,
      txn: row.txn,
      parent: row.parent,
      agent: row.agent,
      path: row.path,
      ceiling: row.node_ceiling,
      killKeys: row.kill_keys,
      // An array of bigint comes as text, whatever the parser of a single one does.
      killEpochs: row.kill_epochs.map(Number),
    },
  };
}
