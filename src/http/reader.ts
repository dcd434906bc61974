import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { isOut } from "./release.ts";

/** Whoever an answer is written to, as fast as he reads. */
export interface Reader {
  /** Until there is room for more, or he is gone, or it was dropped. */
  drained(): Promise<unknown>;
  /** Until all that was written has gone to the system. @returns false where it never will: he is gone, or it was dropped */
  hasAll(): Promise<boolean>;
  /** Drops what he has not taken, and ends the connection at the place of this answer. */
  drop(): void;
}

/** What hears of a connection's end: one listener, however many answers wait on it. */
const atEnd = new WeakMap<Socket, Set<() => void>>();

/** @returns what is called when nobody wants to know any more */
function whenEnded(socket: Socket, call: () => void): () => void {
  let calls = atEnd.get(socket);
  if (calls === undefined) {
    const those = new Set<() => void>();
    calls = those;
    atEnd.set(socket, those);
    socket.once("close", () => those.forEach((one) => one()));
  }
  calls.add(call);
  return () => void calls.delete(call);
}

export function readerOf(req: IncomingMessage, res: ServerResponse): Reader {
  let wake = (): void => {};

  /** @returns whether it came; an answer that waits behind another has no socket whose end it would hear of, its request has */
  const until = (event: "drain" | "finish"): Promise<boolean> =>
    new Promise((resolve) => {
      const end = (hasCome: boolean): void => {
        res.off(event, come);
        res.off("close", leave);
        forget();
        wake = () => {};
        resolve(hasCome);
      };
      const come = (): void => end(true);
      const leave = (): void => end(false);
      wake = leave;
      res.on(event, come);
      res.on("close", leave);
      const forget = whenEnded(req.socket, leave);
      if (isGone(req, res)) leave();
    });

  return {
    drained: () => until("drain"),
    hasAll: async () => !res.destroyed && (isOut(res) || (await until("finish"))),
    drop() {
      res.destroy();
      wake();
    },
  };
}

/** Whether nobody is there to be answered. An answer that waits behind another hears nothing of its connection's end. */
export function isGone(req: IncomingMessage, res: ServerResponse): boolean {
  return res.destroyed || req.socket.destroyed;
}

/** Calls back once, when the exchange is over, whatever became of it. */
export function whenOver(req: IncomingMessage, res: ServerResponse, call: () => void): void {
  const over = (): void => {
    res.off("close", over);
    forget();
    call();
  };
  res.on("close", over);
  const forget = whenEnded(req.socket, over);
  if (isGone(req, res)) over();
}
