import { ALL_KEY, killKey } from "../core/kill/keys.ts";

/** One entry of a frame: what is dead. `iat_lte`: tokens issued until then; without it all (CONTRACT §6). */
export type Dead =
  | { readonly agent: string; readonly iat_lte: number }
  | { readonly sub: string; readonly iat_lte: number }
  | { readonly aud: string; readonly iat_lte: number }
  | { readonly txn: string }
  | { readonly jti: string };

/** Live tokens of one audience that one key of a kill hits. */
export interface HitRow {
  readonly aud: string;
  readonly key: string;
  readonly jtis: readonly string[];
  /** `iat` of the youngest: of another replica's clock, which may be ahead of whoever's reads this. */
  readonly last_iat: number;
}

/**
 * What a resource is told of a change: nothing where none of its tokens is hit. Agents, subjects and chains by their names,
 * its whole audience by `aud`; owners, issuers, leases and tokens with descendants as the tokens that they hit.
 *
 * @param until epoch seconds of the database when it was read; nothing issued later is meant, but what says that it was
 */
export function feedEntries(
  hits: readonly HitRow[],
  audience: { readonly name: string; readonly identifier: string },
  until: number,
): readonly Dead[] {
  const own = hits.filter((hit) => hit.aud === audience.identifier);
  if (own.some(({ key }) => key === ALL_KEY || key === killKey("resource", audience.name)))
    return [{ aud: audience.identifier, iat_lte: Math.max(until, ...own.map((hit) => hit.last_iat)) }];
  const entries: Dead[] = [];
  const tokens = new Set<string>();
  for (const { key, jtis, last_iat: last } of own) {
    const bound = Math.max(until, last);
    const at = key.indexOf(":");
    const value = key.slice(at + 1);
    switch (key.slice(0, at)) {
      case "agent":
        entries.push({ agent: value, iat_lte: bound });
        break;
      case "subject":
        entries.push({ sub: value, iat_lte: bound });
        break;
      case "txn":
        entries.push({ txn: value });
        break;
      default:
        for (const jti of jtis) tokens.add(jti);
    }
  }
  return [...entries, ...[...tokens].map((jti) => ({ jti }))];
}
