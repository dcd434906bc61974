/**
 * The room `revocation` owns kills: what they name, that they are positioned under the gate's exclusive lock, and what they
 * answer. It does not look at tokens; things carry the keys that kill them (`core/kill`).
 */
import type { EventDraft } from "../audit/event.ts";
import type { Recorder } from "../audit/recorder.ts";
import { killKey, type KillKind } from "../core/kill/keys.ts";
import type { Db, DedicatedConnection } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Metrics } from "../system/metrics.ts";
import { ulid } from "../system/random.ts";

/** What dies together, and why. */
export interface KillCommand {
  readonly targets: readonly { readonly kind: KillKind; readonly value: string }[];
  readonly reason: string;
  /** `operator:<id>`, `agent:<name>` or `resource:<name>`. */
  readonly by: string;
  readonly requestId: string;
  readonly receipt?: object | undefined;
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
  readonly receipt: unknown;
  readonly restoredAtMs: number | undefined;
}

/** The room. */
export interface Revocation {
  /** When it has answered, nothing covered is released any more. @throws {DatabaseUnreachableError} and then it is not done */
  kill(command: KillCommand): Promise<KillDone>;
  /** @returns undefined for a token that was killed before */
  killToken(token: TokenKill): Promise<KillDone | undefined>;
  /** Lifts kills. Nothing issued before them comes back. */
  restore(command: KillCommand): Promise<{ lifted: readonly string[]; atMs: number; eventId: string }>;
  read(id: string): Promise<StoredKill | undefined>;
  /** Keeps the receipt of a kill that was done, in place of the one that was stored with it. */
  keepReceipt(id: string, receipt: object): Promise<void>;
}

/** What the room needs. */
interface RevocationDeps {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
}

/**
 * Opens the room. Kills have a connection of their own, so that they wait neither for a busy pool nor for a crowd of holders
 * that revoke their tokens (INV-10).
 */
export function createRevocation(deps: RevocationDeps): Revocation {
  const { db } = deps;
  const kills = oneByOne(db.dedicated("kill"));
  const revocations = oneByOne(db.dedicated("revoke"));
  return {
    kill: (command) => kills((connection) => strike(deps, connection, { command, draft: { type: "kill" } })),
    killToken: ({ jti, txn, sub, by, requestId }) => {
      const command = {
        targets: [{ kind: "jti" as const, value: jti }],
        reason: "revoked by its holder",
        by,
        requestId,
      };
      const draft = { type: "token.revoke" as const, jti, txn, sub };
      return revocations(async (connection) => {
        // Whoever asks again and again must not hold up the gate each time.
        const [row] = await connection.call<{ dead: boolean }>(
          "token_dead",
          "select exists (select 1 from ephor.dead_keys where key = $1 and active) as dead",
          [killKey("jti", jti)],
        );
        return row?.dead === true ? undefined : await strike(deps, connection, { command, draft });
      });
    },
    restore: (command) => kills((connection) => lift(deps, connection, command)),
    read: (id) => readKill(db, id),
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
  const keys = command.targets.map((target) => killKey(target.kind, target.value));
  const event = recorder.draft(
    {
      ...draft,
      agent: command.by,
      requestId: command.requestId,
      facts: { kill: id, targets: keys, why: command.reason },
    },
    "granted",
  );
  const [row] = await connection.call<{ r: { position: number } }>(
    "kill",
    "select ephor.kill($1, $2::jsonb, $3::jsonb) as r",
    [
      atMs,
      JSON.stringify({ id, actor: command.by, reason: command.reason, keys, receipt: command.receipt ?? {} }),
      JSON.stringify(event),
    ],
  );
  for (const target of command.targets) metrics.kills.inc({ kind: target.kind });
  return { id, atMs, position: row?.r.position ?? 0, eventId: event.id };
}

async function lift(
  deps: RevocationDeps,
  connection: DedicatedConnection,
  command: KillCommand,
): Promise<{ lifted: readonly string[]; atMs: number; eventId: string }> {
  const atMs = Math.floor(deps.clock.nowMs());
  const keys = command.targets.map((target) => killKey(target.kind, target.value));
  const event = deps.recorder.draft(
    {
      type: "restore",
      agent: command.by,
      requestId: command.requestId,
      facts: { targets: keys, why: command.reason },
    },
    "granted",
  );
  const [row] = await connection.call<{ r: { lifted: string[] } }>(
    "restore",
    "select ephor.restore($1, $2, $3::jsonb) as r",
    [atMs, keys, JSON.stringify(event)],
  );
  return { lifted: row?.r.lifted ?? [], atMs, eventId: event.id };
}

interface KillRow {
  id: string;
  at_ms: number;
  actor: string;
  reason: string;
  receipt: unknown;
  restored_at_ms: number | null;
}

async function readKill(db: Db, id: string): Promise<StoredKill | undefined> {
  const [row] = await db.query<KillRow>(
    "select id, at_ms, actor, reason, receipt, restored_at_ms from ephor.kills where id = $1",
    [id],
  );
  return (
    row && {
      id: row.id,
      atMs: row.at_ms,
      by: row.actor,
      reason: row.reason,
      receipt: row.receipt,
      restoredAtMs: row.restored_at_ms ?? undefined,
    }
  );
}
