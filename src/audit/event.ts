/**
 * The room `audit` owns the ledger: one durable event for every decision, linked by hashes, tied together by signed
 * heads. It does not decide anything. `authz` appends grants through the gate; other rooms record refusals and notes here.
 */
/** What happened. The list grows with the rooms. */
export type EventType =
  | "token.issue"
  | "token.revoke"
  | "token.introspect"
  | "token.consume"
  | "task.open"
  | "task.end"
  | "task.read"
  | "kill"
  | "restore"
  | "signal.receive"
  | "trust.apply"
  | "agent.status"
  | "keys.rotate"
  | "keys.rewrap"
  | "audit.read"
  | "recording.erase"
  | "admin.request"
  | "secret.set"
  | "secret.remove"
  | "secret.rotate"
  | "credential.vend"
  | "call.inspect"
  | "call.forward"
  | "call.outcome"
  | "approval.ask"
  | "approval.decide"
  | "operator.sign_in"
  | "operator.sign_out"
  | "approval.notify"
  | "hook.receive"
  | "tools.pin"
  | "tools.change"
  | "tools.accept"
  | "credential.release"
  | "lease.end"
  | "lease.stuck"
  | "identity.sign"
  | "ssf.stream"
  | "release.withheld"
  | "canary.failed";

/** One thing to record. `facts` holds names, ids, counts and our own words: never a token, a secret or an assertion. */
export interface EventDraft {
  readonly type: EventType;
  /** The acting agent, or `operator:<id>`. */
  readonly agent?: string | undefined;
  readonly sub?: string | undefined;
  /** Resource name, or `agents/<name>` for a hand-over. */
  readonly resource?: string | undefined;
  readonly txn?: string | undefined;
  readonly jti?: string | undefined;
  readonly traceId?: string | undefined;
  readonly requestId?: string | undefined;
  readonly facts: Readonly<Record<string, EventValue>>;
}

/** JSON values in an event's facts. */
export type EventValue =
  | string
  | number
  | boolean
  | null
  | undefined
  | readonly EventValue[]
  | { readonly [name: string]: EventValue };

/** A row of the ledger as the database functions take it (`ephor.event_row`). */
export interface EventRow {
  readonly id: string;
  readonly type: string;
  readonly decision: "granted" | "refused" | "noted";
  readonly reason: string | null;
  readonly agent: string | null;
  readonly sub: string | null;
  readonly resource: string | null;
  readonly txn: string | null;
  readonly jti: string | null;
  readonly trace_id: string | null;
  readonly body: string;
}

/** Longest string in an event, in characters: longer ones are cut, and say so. A shorter text has no longer string in it. */
const MAX_STRING = 8_192;

/**
 * Makes the row. The body is the exact text that is hashed, one line of JSON.
 *
 * @param stamp `atMs` by the database's clock
 */
export function eventRow(
  draft: EventDraft,
  stamp: { id: string; atMs: number; replica: string },
  verdict: { decision: EventRow["decision"]; reason?: string | undefined },
): EventRow {
  const { type, agent, sub, resource, txn, jti, traceId, requestId } = draft;
  const at = new Date(stamp.atMs).toISOString();
  const { id, replica } = stamp;
  const keys = { v: 1, id, at, replica, type, agent, sub, resource, txn, jti, traceId, requestId };
  const facts = besideKeys(draft.facts);
  const plain = joined(JSON.stringify(keys), JSON.stringify(facts));
  // Most events need no mending, and the plain text shows it; looking at every value costs more than writing it.
  const isPlain = plain.length <= MAX_STRING && !plain.includes("\\u");
  const body = isPlain ? plain : joined(JSON.stringify(keys, storable), JSON.stringify(facts, storable));
  const column = (value: string | undefined): string | null => {
    if (value === undefined) return null;
    // The columns repeat what the text says.
    return isPlain ? value : storableText(value);
  };
  return {
    id,
    type,
    decision: verdict.decision,
    reason: verdict.reason ?? null,
    agent: column(agent),
    sub: column(sub),
    resource: column(resource),
    txn: column(txn),
    jti: column(jti),
    trace_id: column(traceId),
    body,
  };
}

/** One object's text of two objects' texts, the first of which has members. */
function joined(first: string, second: string): string {
  return second === "{}" ? first : `${first.slice(0, -1)},${second.slice(1)}`;
}

/** What an event says about itself. The columns repeat it, and `verify` compares them with the hashed text. */
const EVENT_KEYS: ReadonlySet<string> = new Set(
  "v id at replica type agent sub resource txn jti traceId requestId".split(" "),
);

/** A fact named like a key would replace it in the hashed text; it is told as `fact_<name>` instead. */
function besideKeys(facts: EventDraft["facts"]): EventDraft["facts"] {
  for (const name in facts) {
    if (!EVENT_KEYS.has(name)) continue;
    return Object.fromEntries(
      Object.entries(facts).map(([key, value]) => [EVENT_KEYS.has(key) ? `fact_${key}` : key, value]),
    );
  }
  return facts;
}

/** PostgreSQL stores neither NUL nor lone surrogates; a row that cannot be stored would take its batch with it. */
function storable(_name: string, value: unknown): unknown {
  return typeof value === "string" ? storableText(value) : value;
}

function storableText(value: string): string {
  const cut = value.length > MAX_STRING ? `${value.slice(0, MAX_STRING)}…` : value;
  // oxlint-disable-next-line no-control-regex -- NUL is exactly what is looked for
  return cut.toWellFormed().replace(/\u0000/g, "\uFFFD");
}
