/*
 * core/kill says what a kill covers: things carry the keys that can kill them, and a kill names keys. Both sides take them
 * from here, so that they cannot disagree about the spelling.
 */
import type { Agent } from "../trust/model.ts";
import type { Subject } from "../trust/subject.ts";

/** What a kill can name (CONTRACT §6), each with the value that follows it in a key. */
export type KillKind = "agent" | "txn" | "jti" | "subject" | "issuer" | "resource" | "owner" | "lease";

/** The key of everything. */
export const ALL_KEY = "all";

/** The key of one thing. */
export function killKey(kind: KillKind, value: string): string {
  return `${kind}:${value}`;
}

/** The keys that things carry. */
export const deathKeys = {
  /**
   * What kills a place of this agent.
   *
   * @param workloadIssuer the issuer of the token that authenticated it
   */
  ofAgent(agent: Agent, workloadIssuer: string | undefined): string[] {
    return [
      ALL_KEY,
      killKey("agent", agent.name),
      killKey("owner", agent.owner),
      ...(workloadIssuer === undefined ? [] : [killKey("issuer", workloadIssuer)]),
    ];
  },
  /** What kills all work for this subject. */
  ofSubject(subject: Subject): string[] {
    const own = killKey("subject", subject.sub);
    return subject.type === "human" ? [own, killKey("issuer", subject.issuer)] : [own];
  },
  txn: (txn: string): string => killKey("txn", txn),
  jti: (jti: string): string => killKey("jti", jti),
  lease: (id: string): string => killKey("lease", id),
  resource: (name: string): string => killKey("resource", name),
  /** What an operator decided; no kill names it, their change or removal does. */
  operator: (name: string): string => `operator:${name}`,
};
