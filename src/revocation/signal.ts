import type { EventDraft } from "../audit/event.ts";
import type { Recorder } from "../audit/recorder.ts";
import { drop, type Droppable } from "../authz/heed.ts";
import { killKey } from "../core/kill/keys.ts";
import type { DedicatedConnection } from "../db/database.ts";
import { DatabaseUnreachableError } from "../db/errors.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Metrics } from "../system/metrics.ts";
import { ulid } from "../system/random.ts";

/** What a security event is to do, once. */
export interface SignalCommand {
  /** Its name for the replay table, and until when it must be remembered (epoch seconds). */
  readonly once: { readonly key: string; readonly exp: number };
  readonly effect: "kill" | "lift" | "record";
  /** `<issuer name>|<sub>`; needed but for `record`. */
  readonly subject: string | undefined;
  /** `transmitter:<issuer name>`. */
  readonly by: string;
  readonly reason: string;
  readonly requestId: string;
  /** Epoch seconds at which a kill ends by itself. */
  readonly endsAt?: number | undefined;
  readonly receipt?: object | undefined;
  /** Of the event, for its record. */
  readonly facts: EventDraft["facts"];
}

/** What it did. `position` where a kill stands, also one that stood before. */
export interface SignalDone {
  readonly outcome: "killed" | "lifted" | "not_lifted" | "recorded" | "repeated";
  readonly id: string;
  readonly atMs: number;
  readonly position: number | undefined;
}

interface SignalStepDeps extends Droppable {
  readonly clock: DatabaseClock;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  readonly struck?: () => void;
}

interface Row {
  readonly r: { readonly outcome: SignalDone["outcome"]; readonly position?: number | null };
}

/**
 * Does it and records it, in one step of the database, unless that was done before.
 *
 * @throws {DatabaseUnreachableError} and then nobody knows whether it is done
 */
export async function signalStep(
  deps: SignalStepDeps,
  connection: DedicatedConnection,
  command: SignalCommand,
): Promise<SignalDone> {
  const { clock, metrics } = deps;
  const atMs = Math.floor(clock.nowMs());
  const id = `${command.effect === "kill" ? "kill" : "signal"}_${ulid(atMs)}`;
  const key = command.subject === undefined ? undefined : killKey("subject", command.subject);
  const { does, event, otherwise } = stepOf(deps, { command, id, key });
  const once = { key: command.once.key, holder: id, exp: command.once.exp };
  const [row] = await connection.call<Row>(
    "signal",
    "select ephor.signal($1, $2::jsonb, $3::jsonb, $4::jsonb, $5::jsonb) as r",
    [atMs, ...[once, does, event, otherwise].map((value) => JSON.stringify(value))],
  );
  if (!row) throw new DatabaseUnreachableError({ outcomeUnknown: true });
  const position = row.r.position ?? undefined;
  if (row.r.outcome === "killed" && position !== undefined && key !== undefined) {
    drop(deps, new Map([[key, position]]));
    metrics.kills.inc({ kind: "subject" });
    deps.struck?.();
  }
  return { outcome: row.r.outcome, id, atMs, position };
}

/** What the database is to do, and the event for it; and the one where it finds nothing to lift. */
function stepOf(
  { recorder }: Pick<SignalStepDeps, "recorder">,
  { command, id, key }: { command: SignalCommand; id: string; key: string | undefined },
): { does: object; event: object; otherwise: object | null } {
  const { effect, by, reason, requestId, endsAt, facts, subject: sub } = command;
  const draft = (type: EventDraft["type"], more: EventDraft["facts"]): EventDraft => ({
    type,
    agent: by,
    sub,
    requestId,
    facts: { ...more, ...facts },
  });
  if (effect === "record" || key === undefined)
    return { does: {}, event: recorder.draft(draft("signal.receive", {}), "noted"), otherwise: null };
  if (effect === "lift")
    return {
      does: { lift: { key, actor: by } },
      event: recorder.draft(draft("restore", { targets: [key], why: reason }), "granted"),
      otherwise: recorder.draft(draft("signal.receive", { why: "not killed by this transmitter alone" }), "noted"),
    };
  const kill = { id, actor: by, reason, keys: [key], receipt: command.receipt ?? {}, ends_at: endsAt };
  const event = draft("kill", { kill: id, targets: [key], why: reason, ends_at: endsAt });
  return { does: { kill }, event: recorder.draft(event, "granted"), otherwise: null };
}
