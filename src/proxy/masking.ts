const MASK = 0x2a;
/** Bytes at the edge of a piece that are taken for a part of a secret: fewer occur by chance, and tell little. */
const EDGE_BYTES = 4;

/**
 * Hides what an upstream echoes of the secret that it was sent (INV-16, A-PRX-09): every known spelling of it becomes
 * asterisks of the same length, also across the borders of chunks.
 */
export interface Masking {
  /** Takes a chunk, hands back what can go on now: everything but an end that could be the beginning of a secret. */
  push(chunk: Uint8Array): Uint8Array;
  /**
   * What comes is one piece of a body (RFC 9110 §14), before anything of it was pushed: who asks for one after the other could
   * have each part of a secret by itself.
   */
  ofPiece(): void;
  /** What was kept back at the end. */
  end(): Uint8Array;
  /** Whether a text holds one whole. */
  holds(text: string): boolean;
  /** Whether anything was hidden so far. */
  readonly hasHidden: boolean;
}

/** @param secrets spellings, of {@link spellingsOf} */
export function createMasking(secrets: readonly string[]): Masking {
  const patterns = [...new Set(secrets)].flatMap(bytesOf).toSorted((a, b) => b.length - a.length);
  const longest = patterns[0]?.length ?? 0;
  // As they came, by which what follows is judged, and as they go.
  let kept: Buffer = Buffer.alloc(0);
  let keptOut: Buffer = kept;
  let texts: ReturnType<typeof textsOf> | undefined;
  let hasHidden = false;
  let isPiece = false;
  let isBegun = false;

  function cover(out: Buffer, from: number, to: number): void {
    out.fill(MASK, from, to);
    hasHidden ||= to > from;
  }

  function hide(bytes: Buffer, out: Buffer): void {
    for (const pattern of patterns)
      for (let at = bytes.indexOf(pattern); at >= 0; at = bytes.indexOf(pattern, at + pattern.length))
        cover(out, at, at + pattern.length);
  }

  /** What a piece begins with of a secret; all of one that lies inside. */
  function hideBeginning(bytes: Buffer, out: Buffer): void {
    const isInside = patterns.some((pattern) => pattern.length > bytes.length && pattern.includes(bytes));
    cover(out, 0, isInside ? bytes.length : Math.max(...patterns.map((one) => endingAtBeginning(bytes, one))));
  }

  function begunIn(bytes: Buffer): number {
    return Math.max(...patterns.map((pattern) => beginningAtEnd(bytes, pattern)));
  }

  return {
    push(chunk) {
      if (patterns.length === 0) return chunk;
      const fresh = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      const bytes = kept.length === 0 ? fresh : Buffer.concat([kept, fresh]);
      // A copy: the mask must not be written into memory that somebody else reads.
      const out = Buffer.concat([keptOut, fresh]);
      hide(bytes, out);
      const isHeld = isPiece && !isBegun && bytes.length < longest;
      if (isPiece && !isBegun && !isHeld) {
        isBegun = true;
        hideBeginning(bytes, out);
      }
      const until = isHeld ? 0 : bytes.length - begunIn(bytes);
      kept = Buffer.from(bytes.subarray(until));
      keptOut = Buffer.from(out.subarray(until));
      return out.subarray(0, until);
    },
    ofPiece() {
      isPiece = patterns.length > 0;
    },
    end() {
      const rest = keptOut;
      if (isPiece) {
        if (!isBegun) hideBeginning(kept, rest);
        const begun = begunIn(kept);
        if (begun >= EDGE_BYTES) cover(rest, rest.length - begun, rest.length);
      }
      kept = Buffer.alloc(0);
      keptOut = kept;
      return rest;
    },
    holds(text) {
      texts ??= textsOf(patterns);
      // Most headers are shorter than any secret.
      return text.length >= texts.shortest && texts.all.some((one) => text.includes(one));
    },
    get hasHidden() {
      return hasHidden;
    },
  };
}

/** As a header may hold them: headers are read as Latin-1, whatever their sender meant by their bytes. */
function textsOf(patterns: readonly Buffer[]): { all: readonly string[]; shortest: number } {
  const all = [...new Set(patterns.flatMap((one) => [one.toString("utf8"), one.toString("latin1")]))];
  return { all, shortest: Math.min(...all.map((text) => text.length)) };
}

/** A header goes out in Latin-1, and comes back as those bytes or in UTF-8. */
function bytesOf(text: string): Buffer[] {
  const bytes = Buffer.from(text, "utf8");
  // oxlint-disable-next-line no-control-regex -- all of Latin-1 beyond ASCII
  return bytes.length > text.length && /^[\u0000-\u00ff]*$/.test(text) ? [bytes, Buffer.from(text, "latin1")] : [bytes];
}

/** Length of the longest end of `bytes` that is a beginning of `pattern`, and not all of it. */
function beginningAtEnd(bytes: Buffer, pattern: Buffer): number {
  const first = pattern[0] as number;
  const from = Math.max(0, bytes.length - pattern.length + 1);
  for (let at = bytes.indexOf(first, from); at >= 0; at = bytes.indexOf(first, at + 1)) {
    const length = bytes.length - at;
    if (bytes.compare(pattern, 0, length, at) === 0) return length;
  }
  return 0;
}

/** Length of the longest beginning of `bytes` that is an end of `pattern`, and not all of it; 0 for a few bytes. */
function endingAtBeginning(bytes: Buffer, pattern: Buffer): number {
  for (let length = Math.min(pattern.length - 1, bytes.length); length >= EDGE_BYTES; length--)
    if (bytes.compare(pattern, pattern.length - length, pattern.length, 0, length) === 0) return length;
  return 0;
}
