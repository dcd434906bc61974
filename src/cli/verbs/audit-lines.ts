import type { AuditEvent } from "../../api/audit.ts";
import type { RecordingView } from "../../api/recordings.ts";
import { printable, printableJson } from "../printable.ts";

/** One line for people, and the events that it tells of. */
export interface AuditLine {
  readonly text: string;
  readonly events: readonly AuditEvent[];
}

/** Events as lines. A proxied call is one: who, on whose behalf, what, what was decided, by whom it was approved, and how it ended. */
export function auditLines(events: readonly AuditEvent[]): AuditLine[] {
  const calls = new Set(events.filter(({ type }) => type === "call.forward").map(({ id }) => id));
  const outcomes = new Map<string, AuditEvent>();
  for (const event of events) {
    const of = event.body["of"];
    if (event.type === "call.outcome" && typeof of === "string" && calls.has(of)) outcomes.set(of, event);
  }
  const joined = new Set(outcomes.values());
  return events
    .filter((event) => !joined.has(event))
    .map((event) => {
      const outcome = outcomes.get(event.id);
      const facts = event.type === "call.forward" ? callFacts(event, outcome) : plainFacts(event);
      return { text: line(event, facts), events: outcome === undefined ? [event] : [event, outcome] };
    });
}

type Fact = readonly [string, string | undefined];

function line(event: AuditEvent, facts: readonly Fact[]): string {
  const decision = event.reason === undefined ? event.decision : `${event.decision} (${event.reason})`;
  return [
    event.at,
    event.type,
    decision,
    ...facts.flatMap(([word, value]) => (value === undefined ? [] : [`${word}=${value}`])),
  ]
    .map(printable)
    .join("  ");
}

function plainFacts(event: AuditEvent): Fact[] {
  return [
    ["agent", event.agent],
    ["sub", event.sub],
    ["resource", event.resource],
    ["txn", event.txn],
    ["jti", event.jti],
    ["trace", event.trace_id],
  ];
}

function callFacts(event: AuditEvent, outcome: AuditEvent | undefined): Fact[] {
  const { body } = event;
  const path = listOf(body["path"]);
  return [
    ["sub", event.sub],
    ["agent", path.length === 0 ? event.agent : path.join(" → ")],
    ["call", `${event.resource ?? ""}:${textOf(body["action"]) ?? textOf(body["method"]) ?? ""}`],
    ["target", targetOf(body)],
    ["would", textOf(body["would_refuse"])],
    ["approval", textOf(body["approval"])],
    ["by", listOf(body["approved_by"]).join(", ") || undefined],
    ["outcome", event.decision === "granted" ? outcomeOf(outcome) : undefined],
    ["txn", event.txn],
    ["jti", event.jti],
    ["trace", event.trace_id],
    ["id", event.id],
  ];
}

function targetOf({ method, target, uri, name }: AuditEvent["body"]): string | undefined {
  if (typeof target === "string") return `${textOf(method) ?? ""} ${target}`;
  return textOf(uri) ?? textOf(name);
}

/** An outcome that is not there is either not yet, or its replica died. */
function outcomeOf(outcome: AuditEvent | undefined): string {
  if (outcome === undefined) return "none recorded";
  const { outcome: how, status, ms } = outcome.body;
  const parts = [textOf(how), numberOf(status), numberOf(ms) && `${numberOf(ms)} ms`];
  return parts.filter((part) => part !== undefined).join(" ");
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function numberOf(value: unknown): string | undefined {
  return typeof value === "number" ? String(value) : undefined;
}

function listOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}

/** Whether something was kept beside an event. */
export function isKept({ body }: AuditEvent): boolean {
  return typeof body["kept"] === "object" && body["kept"] !== null;
}

/** Why nothing was kept beside an event that would have had something. */
export function unkeptLines(part: string, { body }: AuditEvent): string[] {
  const why = textOf(body["unkept"]);
  return why === undefined ? [] : [`    ${printable(part)}: not kept (${printable(why)})`];
}

/** What was kept, below its line; everything in it is strangers' text. */
export function recordingLines(part: string, found: RecordingView | undefined): string[] {
  if (found === undefined) return [`    ${printable(part)}: not kept any more`];
  if (found.state === "erased" || found.text === undefined) {
    const by = `${found.erased_by ?? ""} at ${found.erased_at ?? ""}: ${found.reason ?? ""}`;
    return [`    ${printable(part)}: erased by ${printable(by)}`];
  }
  return [`    ${printableJson(found.text).replaceAll("\n", "\\n")}`];
}
