import type { IncomingMessage } from "node:http";
import { InvalidRequestError } from "../core/oauth/errors.ts";
import { LIMITS } from "./limits.ts";

/** The client went away in the middle of its request: there is nobody to answer. */
export class ClientGoneError extends Error {
  override readonly name = "ClientGoneError";
}

/**
 * Reads a body. Time is bounded by the server's request timeout, which ends the connection.
 *
 * @param maxBytes longer ones are refused; what comes beyond is thrown away, never kept
 * @throws {InvalidRequestError} `body_too_large`, status 413; `content_type`, status 415, for a compressed body
 * @throws {ClientGoneError}
 */
export function readBody(req: IncomingMessage, maxBytes: number): Promise<Buffer> {
  if (req.headers["content-encoding"] !== undefined) {
    // A few bytes could become gigabytes, and nobody compresses a form.
    return Promise.reject(
      new InvalidRequestError({ reason: "content_type", status: 415, help: "The body must not be compressed." }),
    );
  }
  if (Number(req.headers["content-length"] ?? 0) > maxBytes) return Promise.reject(tooLarge());
  // One that has ended tells nobody any more.
  if (req.destroyed) return Promise.reject(new ClientGoneError());
  return new Promise((resolve, reject) => {
    let first: Buffer | undefined;
    let rest: Buffer[] | undefined;
    let size = 0;
    req.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) {
        req.pause();
        req.removeAllListeners("data");
        reject(tooLarge());
      } else if (first === undefined) first = chunk;
      else (rest ??= []).push(chunk);
    });
    req.on("end", () =>
      resolve(rest === undefined ? (first ?? Buffer.alloc(0)) : Buffer.concat([first as Buffer, ...rest])),
    );
    req.on("error", () => reject(new ClientGoneError()));
    req.on("close", () => {
      // All of it may have come, and not all been read.
      if (!req.readableEnded) reject(new ClientGoneError());
    });
  });
}

/**
 * Reads and throws away what is left of a request that is refused, so that the refusal reaches a sender who is still
 * sending; within bounds.
 *
 * @returns false when there is too much of it, and the connection must end with the answer
 */
export function discardBody(req: IncomingMessage): Promise<boolean> {
  if (req.complete) return Promise.resolve(true);
  if (req.destroyed) return Promise.resolve(false);
  const { "content-length": length, "transfer-encoding": coding } = req.headers;
  if (length === undefined && coding === undefined) return Promise.resolve(true);
  if (Number(length ?? 0) > LIMITS.lingerBytes) return Promise.resolve(false);
  return new Promise((resolve) => {
    let size = 0;
    req.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > LIMITS.lingerBytes) {
        req.pause();
        resolve(false);
      }
    });
    req.on("end", () => resolve(true));
    req.on("close", () => resolve(false));
    req.on("error", () => resolve(false));
    req.resume();
  });
}

function tooLarge(): InvalidRequestError {
  return new InvalidRequestError({ reason: "body_too_large", status: 413, help: "The body is too large." });
}
