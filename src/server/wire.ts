import type { Caller } from "../http/rooms.ts";

/** Who did it, as the ledger names them: `operator:<name>`, `human:<sub>` for one who is no operator, or the agent. */
export function actorOf(caller: Caller): string {
  switch (caller.kind) {
    case "operator":
      return `operator:${caller.id}`;
    case "person":
      return caller.operator === undefined ? `human:${caller.sub}` : `operator:${caller.operator}`;
    case "agent":
      return caller.agent;
  }
}

/** An instant for people and machines: RFC 3339 in UTC, milliseconds. */
export function instantOf(ms: number): string {
  return new Date(ms).toISOString();
}
