import { isRecord } from "./wire.ts";

/** What a token says of itself. Nothing is verified: an agent is told these facts by a server that it trusts anyway. */
export interface TokenFacts {
  readonly txn: string | undefined;
  readonly jti: string | undefined;
  /** Epoch seconds. */
  readonly exp: number | undefined;
  /** It serves one request, whatever its life is. */
  readonly isOnce: boolean;
}

/** Reads the claims of a JWT; what is not one has no facts. */
export function tokenFacts(token: string): TokenFacts {
  let claims: unknown;
  try {
    claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
  } catch {
    claims = undefined;
  }
  const { txn, jti, exp, once } = isRecord(claims) ? claims : {};
  const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
  return { txn: text(txn), jti: text(jti), exp: typeof exp === "number" ? exp : undefined, isOnce: once === true };
}
