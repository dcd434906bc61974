import type { Db } from "../db/database.ts";
import type { MessagePlace } from "./outgoing.ts";

/** A channel that one replica may send to for now. */
export interface ClaimedChannel {
  readonly channel: string;
  readonly claim: string;
  readonly attempts: number;
}

/** What was told, or is to be told, of one approval at one channel. */
export interface StoredMessage {
  readonly approval: string;
  readonly channel: string;
  /** How the approval stood when it was last told; null: not yet. */
  readonly told: string | null;
  readonly place: MessagePlace | null;
  readonly problem: string | null;
  /** How often somebody said that the approval changed. */
  readonly changes: number;
}

/** How a message is left. */
export interface MessageOutcome {
  readonly told: string | null;
  readonly place: MessagePlace | null;
  /** Nothing more will be told. */
  readonly isOver: boolean;
  /** When it is looked at again, epoch milliseconds. */
  readonly dueAtMs: number;
  readonly problem: string | null;
}

/** A channel that takes nothing for so long is stuck, in milliseconds. */
const STUCK_MS = 60_000;

/** Claims channels that have something to say; nobody else sends to them until then. */
export function claimChannels(
  db: Pick<Db, "query">,
  o: { claim: string; nowMs: number; untilMs: number; limit: number },
): Promise<readonly ClaimedChannel[]> {
  return db.query<ClaimedChannel>(
    `update ephor.channel_senders s set claim = $1, claimed_until_ms = $3 where s.channel in (
       select s.channel from ephor.channel_senders s where s.claimed_until_ms <= $2 and s.retry_at_ms <= $2
         and exists (select 1 from ephor.approval_messages m where m.channel = s.channel and not m.is_over and m.due_at_ms <= $2)
       order by s.retry_at_ms limit $4 for update skip locked)
     returning s.channel, s.claim, s.attempts`,
    [o.claim, o.nowMs, o.untilMs, o.limit],
  );
}

/**
 * Keeps the claim, or gives it back with the time of the next try.
 *
 * @returns false where somebody else has it
 */
export async function keepChannel(
  db: Pick<Db, "query">,
  { channel, claim }: ClaimedChannel,
  to: { untilMs: number } | { retryAtMs: number; problem: string | null; nowMs: number },
): Promise<boolean> {
  const rows =
    "untilMs" in to
      ? await db.query(
          "update ephor.channel_senders set claimed_until_ms = $3 where channel = $1 and claim = $2 returning channel",
          [channel, claim, to.untilMs],
        )
      : await db.query(
          `update ephor.channel_senders set claim = null, claimed_until_ms = 0, retry_at_ms = $3, problem = $4,
             attempts = case when $4::text is null then 0 else attempts + 1 end,
             failing_since_ms = case when $4::text is null then null else coalesce(failing_since_ms, $5) end
           where channel = $1 and claim = $2 returning channel`,
          [channel, claim, to.retryAtMs, to.problem, to.nowMs],
        );
  return rows.length > 0;
}

/** What is due at a channel, what waits longest first. */
export function dueMessages(
  db: Pick<Db, "query">,
  channel: string,
  at: { nowMs: number; limit: number },
): Promise<readonly StoredMessage[]> {
  return db.query<StoredMessage>(
    `select m.approval, m.channel, m.told, m.place, m.problem, m.changes from ephor.approval_messages m
     where m.channel = $1 and not m.is_over and m.due_at_ms <= $2 order by m.due_at_ms, m.approval limit $3`,
    [channel, at.nowMs, at.limit],
  );
}

/** Says how a message is left; one whose approval changed meanwhile is due again at once. */
export async function leaveMessage(
  db: Pick<Db, "query">,
  { approval, channel, changes }: StoredMessage,
  to: MessageOutcome,
): Promise<void> {
  await db.query(
    `update ephor.approval_messages set told = $3, place = $4::jsonb, is_over = $5, problem = $7,
       due_at_ms = case when changes = $8 then $6::bigint else 0 end
     where approval = $1 and channel = $2`,
    [
      approval,
      channel,
      to.told,
      to.place === null ? null : JSON.stringify(to.place),
      to.isOver,
      to.dueAtMs,
      to.problem,
      changes,
    ],
  );
}

/** An approval changed: its messages are looked at now. */
export async function approvalChanged(db: Pick<Db, "query">, approval: string): Promise<void> {
  await db.query(
    "update ephor.approval_messages set due_at_ms = 0, changes = changes + 1 where approval = $1 and not is_over",
    [approval],
  );
}

/** Where an approval was told of, by channel, with what keeps a channel from it. */
export function messagesOf(
  db: Pick<Db, "query">,
  approval: string,
): Promise<readonly (StoredMessage & { readonly attempts: number })[]> {
  return db.query(
    `select m.approval, m.channel, m.told, m.place, m.changes, s.attempts,
       coalesce(m.problem, case when not m.is_over then s.problem end) as problem
     from ephor.approval_messages m join ephor.channel_senders s on s.channel = m.channel
     where m.approval = $1 order by m.channel`,
    [approval],
  );
}

/** The message of one approval at one channel. */
export async function messageAt(
  db: Pick<Db, "query">,
  approval: string,
  channel: string,
): Promise<StoredMessage | undefined> {
  const [row] = await db.query<StoredMessage>(
    "select approval, channel, told, place, problem, changes from ephor.approval_messages where approval = $1 and channel = $2",
    [approval, channel],
  );
  return row;
}

/** For gauges: questions that nobody was shown yet, and channels that have taken nothing for a minute. */
export async function countMessages(db: Pick<Db, "query">, nowMs: number): Promise<{ waiting: number; stuck: number }> {
  const [row] = await db.query<{ waiting: number; stuck: number }>(
    `select (select count(*) from ephor.approval_messages where told is null and not is_over) as waiting,
       (select count(*) from ephor.channel_senders s where s.failing_since_ms < $1
          and exists (select 1 from ephor.approval_messages m where m.channel = s.channel and not m.is_over)) as stuck`,
    [nowMs - STUCK_MS],
  );
  return row ?? { waiting: 0, stuck: 0 };
}
