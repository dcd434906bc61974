import { createHmac } from "node:crypto";
import type { ChannelKind } from "../core/trust/model.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";

/** How far a signed request's time may be from ours, in seconds: what Slack and Standard Webhooks advise. */
export const SIGNED_WITHIN_SECONDS = 300;

/** Bytes of a key of Standard Webhooks ("Signature scheme"). */
const WEBHOOK_KEY_BYTES = { min: 24, max: 64 } as const;
/** Microsoft hands out 32 bytes; less than 16 are no secret. */
const TEAMS_KEY_BYTES = { min: 16, max: 128 } as const;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/**
 * The key that a stored secret means: of Slack its very text, of Teams the bytes whose base64 Teams showed, of a webhook
 * `whsec_` and base64.
 *
 * @returns undefined for a text that is no such secret
 */
export function keyOf(kind: ChannelKind, secret: SecretBytes): SecretBytes | undefined {
  const text = secret.use((bytes) => Buffer.from(bytes).toString("latin1"));
  if (kind === "slack") return /^[\x21-\x7e]{16,256}$/.test(text) ? SecretBytes.fromText(text) : undefined;
  if (kind === "teams") return decoded(text, TEAMS_KEY_BYTES);
  return text.startsWith("whsec_") ? decoded(text.slice("whsec_".length), WEBHOOK_KEY_BYTES) : undefined;
}

function decoded(text: string, { min, max }: { min: number; max: number }): SecretBytes | undefined {
  if (!BASE64.test(text)) return undefined;
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  return bytes.length >= min && bytes.length <= max ? new SecretBytes(bytes) : undefined;
}

/** @returns the value of `X-Slack-Signature` */
export function slackSignature(key: SecretBytes, of: { timestamp: string; body: string }): string {
  return `v0=${mac(key, `v0:${of.timestamp}:`, of.body).digest("hex")}`;
}

/** @returns the value of `Authorization` that Teams sends */
export function teamsSignature(key: SecretBytes, of: { body: string }): string {
  return `HMAC ${mac(key, "", of.body).digest("base64")}`;
}

/** @returns one entry of `webhook-signature` (Standard Webhooks 1.0) */
export function webhookSignature(key: SecretBytes, of: { id: string; timestamp: string; body: string }): string {
  return `v1,${mac(key, `${of.id}.${of.timestamp}.`, of.body).digest("base64")}`;
}

/** @param body a character for a byte, as it came; or, of our own, ASCII */
function mac(key: SecretBytes, head: string, body: string) {
  return key.use((bytes) => createHmac("sha256", bytes).update(head, "latin1").update(body, "latin1"));
}
