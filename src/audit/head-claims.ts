/** Where a stream stood when a head was signed: its last event, and SHA-256 so far in base64url. */
export type HeadPosition = readonly [seq: number, hash: string];

/**
 * What a signed head says (`ephor-head+jwt`): where every stream stood that had moved since it was last named, and which
 * head came before. All heads together say where all streams stood.
 */
export interface HeadClaims {
  readonly iss: string;
  /** 1, 2, 3 … without a gap. */
  readonly seq: number;
  /** Whole seconds since the epoch, by the database's clock. */
  readonly iat: number;
  readonly streams: Readonly<Record<string, HeadPosition>>;
  /** SHA-256 of the JWS of the head before, base64url; null in the first. */
  readonly prev: string | null;
}

/** Bounds of one head, each with its reason. */
export const HEAD_LIMITS = {
  /** What does not fit is in the next head, made at once: a head stays small enough to be read with a limit. */
  streams: 200,
  /** Longest compact JWS of a head; 200 streams with long names are below it. */
  maxBytes: 128 * 1024,
};

const SHA256_BASE64URL = /^[A-Za-z0-9_-]{43}$/;

/** The claims, when they have exactly the shape of a head's; undefined otherwise. Their signature is the caller's to check. */
export function readHeadClaims(payload: unknown): HeadClaims | undefined {
  if (typeof payload !== "object" || payload === null || Array.isArray(payload)) return undefined;
  const { iss, seq, iat, streams, prev } = payload as Record<string, unknown>;
  if (typeof iss !== "string" || !isCount(seq) || seq < 1 || !isCount(iat)) return undefined;
  if (prev !== null && !isHash(prev)) return undefined;
  if (typeof streams !== "object" || streams === null || Array.isArray(streams)) return undefined;
  const entries = Object.entries(streams as Record<string, unknown>);
  if (!entries.every((entry): entry is [string, HeadPosition] => isPosition(entry[1]))) return undefined;
  return { iss, seq, iat, prev, streams: Object.fromEntries(entries) };
}

function isPosition(value: unknown): value is HeadPosition {
  return Array.isArray(value) && value.length === 2 && isCount(value[0]) && value[0] > 0 && isHash(value[1]);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isHash(value: unknown): value is string {
  return typeof value === "string" && SHA256_BASE64URL.test(value);
}
