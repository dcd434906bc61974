import { write, writeSync } from "node:fs";

/** Bytes that wait for a reader who is slow or gone; beyond them lines are dropped, so that memory stays bounded. */
const MAX_WAITING_BYTES = 256 * 1024;
/** Bytes that are written at once. */
const MAX_WRITE_BYTES = 64 * 1024;
/** Until a pipe that is full is tried again, in milliseconds. */
const FULL_PAUSE_MS = 100;
/** What a full pipe says to whoever does not wait for it. */
const FULL = new Set(["EAGAIN", "EWOULDBLOCK"]);

/** Where log lines go: in order, behind the event loop's back. What cannot be written is dropped and counted (A-OPS-05). */
export interface LineSink {
  /** @param line with its line end */
  write(line: string): void;
  /** Lines that were dropped so far. */
  dropped(): number;
  /** Writes what waits, as far as it goes without waiting. For the end of the process. */
  flushSync(): void;
}

/**
 * A sink for a descriptor: a file, a terminal, or a pipe that does not block (Node makes the standard streams' so when they are
 * first looked at). A full disk or a closed pipe costs lines, and so does a reader who does not read; none of them stops anything,
 * and when it is over the next line says how many are missing.
 */
export function createLineSink(fd: number): LineSink {
  /** Lines that nobody has begun to write. */
  let waiting: string[] = [];
  let waitingBytes = 0;
  let dropped = 0;
  let told = 0;
  let isWriting = false;

  function lost(lines: number): void {
    dropped += lines;
  }

  /** As many of the waiting lines as are written at once. */
  function take(): readonly string[] {
    let bytes = 0;
    let count = 0;
    for (const line of waiting) {
      const size = Buffer.byteLength(line);
      if (count > 0 && bytes + size > MAX_WRITE_BYTES) break;
      bytes += size;
      count++;
    }
    waitingBytes -= bytes;
    return waiting.splice(0, count);
  }

  function next(): void {
    if (isWriting || waiting.length === 0) return;
    isWriting = true;
    const lines = take();
    send(Buffer.from(lines.join("")), lines.length);
  }

  /** @param count the lines that the bytes end, of which none was written whole */
  function send(bytes: Buffer, count: number): void {
    write(fd, bytes, 0, bytes.length, null, (error, written) => {
      if (error !== null && FULL.has(error.code ?? "")) {
        setTimeout(() => send(bytes, count), FULL_PAUSE_MS).unref();
        return;
      }
      if (error === null && written < bytes.length) {
        send(bytes.subarray(written), count - linesIn(bytes.subarray(0, written)));
        return;
      }
      isWriting = false;
      if (error === null) tellLost();
      else lost(count);
      next();
    });
  }

  /** What was just written shows that there is room again. */
  function tellLost(): void {
    if (dropped === told) return;
    const time = new Date().toISOString();
    add(`${JSON.stringify({ level: "warn", time, event: "log_lines_dropped", count: dropped - told })}\n`);
    told = dropped;
  }

  function add(line: string): void {
    waiting.push(line);
    waitingBytes += Buffer.byteLength(line);
  }

  return {
    write(line) {
      if (waitingBytes + line.length > MAX_WAITING_BYTES) return lost(1);
      add(line);
      next();
    },
    dropped: () => dropped,
    flushSync() {
      // What is being written is in the system's hands, or in those of a reader who does not read.
      const lines = waiting;
      waiting = [];
      waitingBytes = 0;
      try {
        if (lines.length > 0) writeSync(fd, lines.join(""));
      } catch {
        lost(lines.length);
      }
    },
  };
}

function linesIn(bytes: Buffer): number {
  let count = 0;
  for (const byte of bytes) if (byte === 0x0a) count++;
  return count;
}
