import type { Caller } from "../http/rooms.ts";

/** Who did it, as the ledger names them: `operator:<id>`, or the agent. */
export function actorOf(caller: Caller): string {
  return caller.kind === "operator" ? `operator:${caller.id}` : caller.agent;
}

/** An instant for people and machines: RFC 3339 in UTC, milliseconds. */
export function instantOf(ms: number): string {
  return new Date(ms).toISOString();
}
