import type { IncomingMessage, ServerResponse } from "node:http";
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

export function readerOf(req: IncomingMessage, res: ServerResponse): Reader {
  let wake = (): void => {};

  /** @returns whether it came; an answer that waits behind another has no socket whose end it would hear of, its request has */
  const until = (event: "drain" | "finish"): Promise<boolean> =>
    new Promise((resolve) => {
      const end = (hasCome: boolean): void => {
        res.off(event, come);
        res.off("close", leave);
        req.socket.off("close", leave);
        wake = () => {};
        resolve(hasCome);
      };
      const come = (): void => end(true);
      const leave = (): void => end(false);
      wake = leave;
      res.on(event, come);
      res.on("close", leave);
      req.socket.on("close", leave);
      if (res.destroyed || req.socket.destroyed) leave();
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

/** Calls back once, when the exchange is over, whatever became of it. */
export function whenOver(req: IncomingMessage, res: ServerResponse, call: () => void): void {
  const over = (): void => {
    res.off("close", over);
    req.socket.off("close", over);
    call();
  };
  res.on("close", over);
  req.socket.on("close", over);
}
