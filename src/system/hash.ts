import { hash, timingSafeEqual } from "node:crypto";

/** @returns SHA-256 of the bytes, or of the string in UTF-8, in base64url without padding (43 characters) */
export function sha256Base64url(data: string | Uint8Array): string {
  return hash("sha256", data, "base64url");
}

/** @returns SHA-256 of the bytes, or of the string in UTF-8, in lower-case hexadecimal (64 characters) */
export function sha256Hex(data: string | Uint8Array): string {
  return hash("sha256", data, "hex");
}

/** Whether two digests of one kind, as text, are equal, in a time that tells nothing about where they differ. */
export function digestsEqual(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

/** Whether two strings are equal, in a time that tells nothing about where they differ nor about their lengths. */
export function constantTimeEqual(a: string, b: string): boolean {
  // Digests have one length, which `timingSafeEqual` demands; equal digests mean equal strings.
  return timingSafeEqual(hash("sha256", a, "buffer"), hash("sha256", b, "buffer"));
}
