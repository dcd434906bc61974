/**
 * The room `revocation` owns kills: what they name, that they are positioned under the gate's exclusive lock, and what they
 * answer. It does not look at tokens; things carry the keys that kill them (`core/kill`).
 */
import type { EventDraft } from "../audit/event.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { Heartbeat } from "../authz/heartbeat.ts";
import { drop, type Droppable } from "../authz/heed.ts";
import { askerKilled, askerParam, type Asker } from "../core/kill/asker.ts";
import { ALL_KEY, killKey, type KillKind } from "../core/kill/keys.ts";
import { CANARY, isCanary } from "../core/trust/canary.ts";
import type { Db, DedicatedConnection } from "../db/database.ts";
import { DatabaseUnreachableError } from "../db/errors.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { ulid } from "../system/random.ts";
import { createAcknowledgements, type ReplicaHeard } from "./acknowledgements.ts";
import { signalStep, type SignalCommand, type SignalDone } from "./signal.ts";

/** One thing that a kill names; `all` has no value. */
export type KillTarget = { readonly kind: KillKind; readonly value: string } | { readonly kind: "all" };

/** The key under which a kill of it stands. */
export function keyOf(target: KillTarget): string {
  return target.kind === "all" ? ALL_KEY : killKey(target.kind, target.value);
}

/** What dies together, and why. */
export interface KillCommand {
  readonly targets: readonly KillTarget[];
  readonly reason: string;
  /** `operator:<id>`, `agent:<name>` or `resource:<name>`. */
  readonly by: string;
  readonly requestId: string;
  readonly receipt?: object | undefined;
  /** Epoch seconds at which it ends by itself. */
  readonly endsAt?: number | undefined;
}

/** One token of whoever may end it. */
export interface TokenKill {
  readonly jti: string;
  readonly txn: string;
  readonly sub: string;
  readonly by: string;
  readonly requestId: string;
}

/** A kill that stands. */
export interface KillDone {
  readonly id: string;
  readonly atMs: number;
  /** Its place among kills, restores and releases. */
  readonly position: number;
  readonly eventId: string;
}

/** A kill as it was stored. */
export interface StoredKill {
  readonly id: string;
  readonly atMs: number;
  readonly by: string;
  readonly reason: string;
  readonly keys: readonly string[];
  readonly receipt: unknown;
  readonly restoredAtMs: number | undefined;
  /** Epoch seconds at which it ends by itself. */
  readonly endsAt: number | undefined;
}

/** The room. */
export interface Revocation {
  /**
   * When it has answered, no replica releases anything that is covered.
   *
   * @param stands called when it is done in the database, and replicas are waited for
   * @throws {DatabaseUnreachableError} and then nobody knows whether it is done
   */
  kill(
    command: KillCommand,
    stands?: (done: KillDone) => void,
  ): Promise<KillDone & { readonly replicas: readonly ReplicaHeard[] }>;
  /**
   * Waits until every replica has taken in what stands at this position, or was fenced, and it is remembered outside of the
   * database: for what is taken away otherwise than by a kill. Never throws.
   */
  everywhere(position: number): Promise<readonly ReplicaHeard[]>;
  /**
   * Does what a transmitter's security event means, once over all replicas; a kill stands everywhere when this has answered.
   *
   * @throws {DatabaseUnreachableError} and then nobody knows whether it is done
   */
  signal(command: SignalCommand): Promise<SignalDone & { readonly replicas: readonly ReplicaHeard[] }>;
  /** @returns undefined for a token that was killed before */
  killToken(token: TokenKill): Promise<KillDone | undefined>;
  /**
   * Lifts kills. Nothing issued before them comes back.
   *
   * @throws {InvalidTokenError} `killed`: nobody lifts what killed him by what he asked for before
   */
  restore(
    command: KillCommand & { readonly asker?: Asker | undefined },
  ): Promise<{ lifted: readonly string[]; atMs: number; eventId: string }>;
  read(id: string): Promise<StoredKill | undefined>;
  /** Newest first, without the canary's. @param page.before the id that the page starts below */
  list(page: { before: string | undefined; limit: number }): Promise<readonly StoredKill[]>;
  /** Keeps the receipt of a kill that was done, in place of the one that was stored with it. */
  keepReceipt(id: string, receipt: object): Promise<void>;
}

/** The event of a kill names so many things; all are in its record. */
const MAX_NAMED = 200;

/** What the room needs. */
interface RevocationDeps extends Droppable {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly replica: string;
  readonly heartbeat: Pick<Heartbeat, "silentMs">;
  /** Remembers outside of the database that there was a kill at this position; waited for, and never throws. */
  readonly anchor: (position: number) => Promise<void>;
  /** After a kill stands: what hangs on it need not wait to find out. */
  readonly struck?: () => void;
}

/**
 * Opens the room. Kills have a connection of their own, so that they wait neither for a busy pool nor for a crowd of holders
 * that revoke their tokens (INV-10).
 */
export function createRevocation(deps: RevocationDeps): Revocation {
  const { db } = deps;
  const kills = oneByOne(db.dedicated("kill", { kept: true }));
  const revocations = oneByOne(db.dedicated("revoke"));
  const signals = oneByOne(db.dedicated("signals"));
  const { everywhere } = createAcknowledgements({
    ...deps,
    connection: db.dedicated("acknowledgements", { kept: true }),
  });
  const stood = async (position: number): Promise<readonly ReplicaHeard[]> =>
    (await Promise.all([everywhere(position), deps.anchor(position)]))[0];
  return {
    everywhere: stood,
    async kill(command, stands) {
      const done = await kills((connection) => strike(deps, connection, { command, draft: { type: "kill" } }));
      // Others kill while this one waits.
      const replicas = stood(done.position);
      stands?.(done);
      return { ...done, replicas: await replicas };
    },
    async signal(command) {
      const done = await signals((connection) => signalStep(deps, connection, command));
      // Also where another replica does the same event now: the transmitter is told when it is done.
      return { ...done, replicas: done.position === undefined ? [] : await stood(done.position) };
    },
    async killToken({ jti, txn, sub, by, requestId }) {
      const command = {
        targets: [{ kind: "jti" as const, value: jti }],
        reason: "revoked by its holder",
        by,
        requestId,
      };
      const draft = { type: "token.revoke" as const, jti, txn, sub };
      const { done, position } = await revocations(async (connection) => {
        // Whoever asks again and again must not hold up the gate each time.
        const [row] = await connection.call<{ position: number }>(
          "token_dead",
          "select position from ephor.dead_keys where key = $1 and active",
          [killKey("jti", jti)],
        );
        if (row !== undefined) return { done: undefined, position: row.position };
        const struck = await strike(deps, connection, { command, draft });
        return { done: struck, position: struck.position };
      });
      await stood(position);
      return done;
    },
    restore: (command) => kills((connection) => lift(deps, connection, command)),
    read: async (id) => (await readKills(db, "id = $1", [id]))[0],
    // By their place, for names made within the same millisecond are in no order.
    list: ({ before, limit }) =>
      readKills(
        db,
        "($1::text is null or position < (select position from ephor.kills where id = $1)) and actor <> $3 order by position desc limit $2",
        [before ?? null, limit, CANARY],
      ),
    async keepReceipt(id, receipt) {
      await db.query("update ephor.kills set receipt = $2::jsonb where id = $1", [id, JSON.stringify(receipt)]);
    },
  };
}

/** One connection carries one statement at a time; the next waits for it. */
function oneByOne(connection: DedicatedConnection) {
  let last: Promise<unknown> = Promise.resolve();
  return <T>(work: (connection: DedicatedConnection) => Promise<T>): Promise<T> => {
    const now = (): Promise<T> => work(connection);
    const turn = last.then(now, now);
    last = turn.catch(() => {});
    return turn;
  };
}

async function strike(
  deps: RevocationDeps,
  connection: DedicatedConnection,
  at: { command: KillCommand; draft: Omit<EventDraft, "facts" | "agent"> },
): Promise<KillDone> {
  const { clock, recorder, metrics } = deps;
  const { command, draft } = at;
  const atMs = Math.floor(clock.nowMs());
  const id = `kill_${ulid(atMs)}`;
  const keys = [...new Set(command.targets.map(keyOf))];
  const event = recorder.draft(
    {
      ...draft,
      agent: command.by,
      requestId: command.requestId,
      facts: { kill: id, targets: keys.slice(0, MAX_NAMED), why: command.reason, ends_at: command.endsAt },
    },
    "granted",
  );
  const [row] = await connection.call<{ r: { position: number } }>(
    "kill",
    "select ephor.kill($1, $2::jsonb, $3::jsonb) as r",
    [
      atMs,
      JSON.stringify({
        id,
        actor: command.by,
        reason: command.reason,
        keys,
        receipt: command.receipt ?? {},
        ends_at: command.endsAt,
      }),
      JSON.stringify(event),
    ],
  );
  if (!row) throw new DatabaseUnreachableError({ outcomeUnknown: true });
  drop(deps, new Map(keys.map((key) => [key, row.r.position])));
  // What the canary kills has numbers of its own.
  if (!isCanary(command.by)) for (const target of command.targets) metrics.kills.inc({ kind: target.kind });
  deps.struck?.();
  return { id, atMs, position: row.r.position, eventId: event.id };
}

async function lift(
  deps: RevocationDeps,
  connection: DedicatedConnection,
  command: KillCommand & { readonly asker?: Asker | undefined },
): Promise<{ lifted: readonly string[]; atMs: number; eventId: string }> {
  const atMs = Math.floor(deps.clock.nowMs());
  const keys = command.targets.map(keyOf);
  const event = deps.recorder.draft(
    {
      type: "restore",
      agent: command.by,
      requestId: command.requestId,
      facts: { targets: keys, why: command.reason },
    },
    "granted",
  );
  const [row] = await connection.call<{ r: { lifted: string[] } | null }>(
    "restore",
    "select case when ephor.asker_lives($4::jsonb, $1) then ephor.restore($1, $2, $3::jsonb) end as r",
    [atMs, keys, JSON.stringify(event), askerParam(command.asker)],
  );
  if (row?.r === null) throw askerKilled();
  return { lifted: row?.r.lifted ?? [], atMs, eventId: event.id };
}

interface KillRow {
  id: string;
  at_ms: number;
  actor: string;
  reason: string;
  keys: string[];
  receipt: unknown;
  restored_at_ms: number | null;
  ends_at: number | null;
}

async function readKills(db: Db, where: string, params: readonly unknown[]): Promise<readonly StoredKill[]> {
  const rows = await db.query<KillRow>(
    `select id, at_ms, actor, reason, keys, receipt, restored_at_ms, ends_at from ephor.kills where ${where}`,
    params,
  );
  return rows.map((row) => ({
    id: row.id,
    atMs: row.at_ms,
    by: row.actor,
    reason: row.reason,
    keys: row.keys,
    receipt: row.receipt,
    restoredAtMs: row.restored_at_ms ?? undefined,
    endsAt: row.ends_at ?? undefined,
  }));
}
