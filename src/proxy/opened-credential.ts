import type { InjectedCredential } from "../broker/injected.ts";
import { spellingsOf } from "./spellings.ts";

/** An access token as it is sent, and all by which it would be known in an answer; of AWS's keys, which only sign, the latter. */
export function openedCredential(credential: InjectedCredential): {
  injected: string | undefined;
  spellings: readonly string[];
} {
  return credential.use(({ access_token: token, secret_access_key: key, session_token: session }) => {
    const injected = token === undefined ? undefined : `Bearer ${String(token)}`;
    const secrets = [token, key, session, injected].flatMap((value) => (typeof value === "string" ? [value] : []));
    return { injected, spellings: secrets.flatMap(spellingsOf) };
  });
}
