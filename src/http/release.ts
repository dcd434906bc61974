import type { ServerResponse } from "node:http";
import { TLSSocket } from "node:tls";

/** An answer that releases something: it leaves at once, or never. */
export interface Release {
  /** Asked in the turn in which the answer is written: whether it still may. */
  readonly release: () => boolean;
  /** Told when the answer cannot be written, in place of `release`: the client is gone, or does not read. */
  readonly withheld?: (() => void) | undefined;
}

/** Whether what this answer releases may be written now, in this very turn. */
export function mayLeave(res: ServerResponse, { release, withheld }: Release): boolean {
  if (isRead(res)) return release();
  withheld?.();
  return false;
}

/**
 * Writes an answer that {@link mayLeave} let go. What the system does not take at once is not kept for later: after a kill it
 * would still come out (CONTRACT §2 rule 7).
 */
export function writeAtOnce(
  res: ServerResponse,
  { status, headers, body }: { status: number; headers: readonly string[]; body: string },
): void {
  const { socket } = res;
  res.writeHead(status, [...headers, "Content-Length", String(Buffer.byteLength(body))]);
  res.end(body);
  if (isTaken(socket)) return;
  // TLS tells only afterwards that the system took it: when what is due in this turn was done.
  if (socket instanceof TLSSocket) setImmediate(() => setImmediate(() => res.writableFinished || socket.destroy()));
  else socket?.destroy();
}

/** Whether everything that was written so far has gone to the system: a kill has nothing to take back here. */
export function isOut(res: ServerResponse): boolean {
  return res.writableFinished || (res.socket !== null && !res.socket.destroyed && isTaken(res.socket));
}

/**
 * Whether what is written now goes to the system at once. A pipelined answer waits in our memory for the one before it, and
 * one behind a client that does not read waits for him.
 */
function isRead(res: ServerResponse): boolean {
  return res.socket !== null && !res.socket.destroyed && isTaken(res.socket);
}

function isTaken(socket: ServerResponse["socket"]): boolean {
  return socket?.writableLength === 0;
}
