import { RefusedToken } from "../token/refused.ts";

/** One name under which the acting agent is known: its `sub` here or at its issuer, with `iss`, and perhaps `client_id`. */
export type ActorIdentity = Readonly<Record<string, string>> & { readonly sub: string };

/**
 * Refuses an actor that the subject's token does not name, where it names one. All members of `may_act` must be strings and
 * equal those of one and the same identity. Without `may_act` nothing is granted and nothing refused: grants decide.
 *
 * @param mayAct the claim `may_act` of the subject token
 * @param identities every name of the acting agent
 * @throws {RefusedToken} `may_act_mismatch`
 * @see RFC 8693 §4.4, A-CHN-04
 */
export function checkMayAct(mayAct: unknown, identities: readonly ActorIdentity[]): void {
  if (mayAct === undefined) return;
  const isObject = typeof mayAct === "object" && mayAct !== null && !Array.isArray(mayAct);
  const members = isObject ? Object.entries(mayAct) : [];
  const isNamed = (identity: ActorIdentity) =>
    members.every(([name, value]) => Object.hasOwn(identity, name) && identity[name] === value);
  if (members.length === 0 || !identities.some(isNamed)) throw new RefusedToken({ reason: "may_act_mismatch" });
}
