import { createHmac, timingSafeEqual } from "node:crypto";
import type { EpochSeconds } from "../core/time.ts";

/** A new nonce each minute; the one before is still taken, so a client has 60 to 120 s (standards §10.1). */
const BUCKET_SECONDS = 60;
/** Buckets until the year 10136. */
const BUCKET_BYTES = 4;
/** 128 bits: a nonce is only guessed online, and works for two minutes. */
const MAC_BYTES = 16;
const NONCE_CHARACTERS = Math.ceil(((BUCKET_BYTES + MAC_BYTES) * 4) / 3);

/**
 * DPoP nonces without a store: every replica makes and knows the same ones (RFC 9449 §8). They show that a proof was
 * made recently, by our clock; that it is used once is the replay table's work.
 */
export interface DpopNonces {
  /** The nonce to hand out now, 27 base64url characters. */
  current(now: EpochSeconds): string;
  /** Whether a proof with this nonce was made within the last two minutes. */
  accepts(nonce: string, now: EpochSeconds): boolean;
}

/** @param secret the secret shared by all replicas; read at each use */
export function createDpopNonces(secret: () => Uint8Array): DpopNonces {
  function nonceOf(bucket: number): string {
    const time = Buffer.alloc(BUCKET_BYTES);
    time.writeUInt32BE(bucket);
    const mac = createHmac("sha256", secret()).update("ephor dpop nonce\0").update(time).digest();
    return Buffer.concat([time, mac.subarray(0, MAC_BYTES)]).toString("base64url");
  }
  return {
    current: (now) => nonceOf(bucketOf(now)),
    accepts(nonce, now) {
      if (nonce.length !== NONCE_CHARACTERS) return false;
      // Compared as text, so that two spellings of the same bytes are two nonces.
      const given = Buffer.from(nonce, "utf8");
      const bucket = bucketOf(now);
      // One ahead as well: a replica whose clock is seconds before ours made it.
      return [bucket - 1, bucket, bucket + 1].some((each) => {
        const ours = Buffer.from(nonceOf(each), "utf8");
        return given.length === ours.length && timingSafeEqual(given, ours);
      });
    },
  };
}

function bucketOf(now: EpochSeconds): number {
  return Math.floor(now / BUCKET_SECONDS);
}
