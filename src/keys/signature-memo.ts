import { sha256Base64url } from "../system/hash.ts";

/**
 * Remembered signatures in each of two generations. Tokens live under a minute, so what falls out was expired or costs
 * one more verification; about 100 bytes each.
 */
const GENERATION_SIZE = 16_384;

/**
 * Remembers which whole tokens were found to be signed by which key, and nothing else: time, audience, kill state and
 * the key's own window are judged every time (security.md §1.2, performance.md "What decides" 4).
 */
export interface SignatureMemo {
  /** @param token the whole compact JWS */
  has(kid: string, token: string): boolean;
  add(kid: string, token: string): void;
}

/** @param generationSize entries of a generation; at most twice as many are held */
export function createSignatureMemo(generationSize: number = GENERATION_SIZE): SignatureMemo {
  let young = new Set<string>();
  let old = new Set<string>();
  // The key is part of the name: a token that says another `kid` is another token, and a digest cannot stand for two.
  const nameOf = (kid: string, token: string): string => `${kid}.${sha256Base64url(token)}`;
  return {
    has(kid, token) {
      const name = nameOf(kid, token);
      return young.has(name) || old.has(name);
    },
    add(kid, token) {
      if (young.size >= generationSize) {
        old = young;
        young = new Set();
      }
      young.add(nameOf(kid, token));
    },
  };
}
