import { randomBytes } from "node:crypto";
import type { Envelope } from "../vault/envelope.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import { NONCE_PLACE } from "./held-keys.ts";
import { makeKey, type SigningAlgorithm } from "./key-material.ts";
import { type KeyRow, NONCE_ROW } from "./store.ts";

/** HMAC-SHA-256: as long as its output (RFC 2104 §3). */
const NONCE_SECRET_BYTES = 32;

/** The keys of a new database: an active and a next one of each use, and the nonce secret. Not stored yet. */
export async function makeFirstKeys(
  envelope: Envelope,
  order: { plans: Record<"token" | "record", { algorithm: SigningAlgorithm }>; nowMs: number },
): Promise<{ nonce: KeyRow; rows: KeyRow[] }> {
  const { plans, nowMs } = order;
  const wanted = (["token", "record"] as const).flatMap((use) => [
    { use, algorithm: plans[use].algorithm, status: "active" as const, nowMs },
    { use, algorithm: plans[use].algorithm, status: "next" as const, nowMs },
  ]);
  const rows = await Promise.all(wanted.map((key) => makeKey(envelope, key)));
  const secret = new SecretBytes(randomBytes(NONCE_SECRET_BYTES));
  const nonce: KeyRow = {
    kid: NONCE_ROW,
    use: "nonce",
    algorithm: "HS256",
    status: "active",
    publicJwk: null,
    sealed: await envelope.seal(secret, NONCE_PLACE),
    createdAt: nowMs,
    activatedAt: null,
    retiredAt: null,
  };
  secret.wipe();
  return { nonce, rows };
}
