import { randomBytes } from "node:crypto";
import type { Envelope } from "../vault/envelope.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import { NONCE_PLACE } from "./held-keys.ts";
import { makeKey, type SigningAlgorithm } from "./key-material.ts";
import type { KeyUse } from "./key-ring.ts";
import { type KeyRow, NONCE_ROW } from "./store.ts";

/** HMAC-SHA-256: as long as its output (RFC 2104 §3). */
const NONCE_SECRET_BYTES = 32;

/** The first active and next key of one use. Not stored yet. */
export async function makePair(
  envelope: Envelope,
  order: { use: KeyUse; algorithm: SigningAlgorithm; nowMs: number },
): Promise<KeyRow[]> {
  return Promise.all((["active", "next"] as const).map((status) => makeKey(envelope, { ...order, status })));
}

/**
 * The keys of a new database: an active and a next one of each use, and the nonce secret. Not stored yet. The identity keys
 * come later, for RSA keys would keep the first start waiting.
 */
export async function makeFirstKeys(
  envelope: Envelope,
  order: { plans: Record<"token" | "record", { algorithm: SigningAlgorithm }>; nowMs: number },
): Promise<{ nonce: KeyRow; rows: KeyRow[] }> {
  const { plans, nowMs } = order;
  const pairs = await Promise.all(
    (["token", "record"] as const).map((use) => makePair(envelope, { use, algorithm: plans[use].algorithm, nowMs })),
  );
  const rows = pairs.flat();
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
