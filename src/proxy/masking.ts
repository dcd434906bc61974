const MASK = 0x2a;

/**
 * Hides what an upstream echoes of the secret that it was sent (INV-16, A-PRX-09): every known spelling of it becomes
 * asterisks of the same length, also across the borders of chunks.
 */
export interface Masking {
  /** Takes a chunk, hands back what can go on now: everything but an end that could be the beginning of a secret. */
  push(chunk: Uint8Array): Uint8Array;
  /** What was kept back at the end. */
  end(): Uint8Array;
  /** Whether a text holds one whole. */
  holds(text: string): boolean;
  /** Whether anything was hidden so far. */
  readonly hasHidden: boolean;
}

/** @param secrets spellings, of {@link spellingsOf} */
export function createMasking(secrets: readonly string[]): Masking {
  // Longest first, so that one which holds another is hidden whole.
  const patterns = [...new Set(secrets)].flatMap(bytesOf).toSorted((a, b) => b.length - a.length);
  let kept: Buffer = Buffer.alloc(0);
  let hasHidden = false;

  function hide(bytes: Buffer): void {
    for (const pattern of patterns)
      for (let at = bytes.indexOf(pattern); at >= 0; at = bytes.indexOf(pattern, at + pattern.length)) {
        bytes.fill(MASK, at, at + pattern.length);
        hasHidden = true;
      }
  }

  return {
    push(chunk) {
      if (patterns.length === 0) return chunk;
      // A copy: the mask must not be written into memory that somebody else reads.
      const bytes = Buffer.concat([kept, chunk]);
      hide(bytes);
      const begun = Math.max(...patterns.map((pattern) => beginningAtEnd(bytes, pattern)));
      kept = Buffer.from(bytes.subarray(bytes.length - begun));
      return bytes.subarray(0, bytes.length - begun);
    },
    end() {
      const rest = kept;
      kept = Buffer.alloc(0);
      return rest;
    },
    // Headers are read as Latin-1, whatever their sender meant by their bytes.
    holds: (text) =>
      patterns.some((pattern) => text.includes(pattern.toString("utf8")) || text.includes(pattern.toString("latin1"))),
    get hasHidden() {
      return hasHidden;
    },
  };
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
