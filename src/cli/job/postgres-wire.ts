import type { Duplex } from "node:stream";
import { ScramError, createScramClient } from "./scram.ts";

/** The other side of a connection does not speak PostgreSQL's protocol as we need it, or is gone. */
export class PostgresWireError extends Error {
  override readonly name = "PostgresWireError";
  /** Whether it was the local client, not the upstream. */
  readonly isClient: boolean;

  constructor(what: string, isClient = false) {
    super(what);
    this.isClient = isClient;
  }
}

/** Longest message before a session has begun, in bytes: start-up parameters, or an error with its hint. */
const MAX_MESSAGE_BYTES = 65_536;

export const PROTOCOL_3 = 196_608;
export const SSL_REQUEST = 80_877_103;
export const GSS_REQUEST = 80_877_104;
export const CANCEL_REQUEST = 80_877_102;

/** Reads exactly so many bytes; what comes after them stays in the stream. */
export async function readExactly(stream: Duplex, count: number): Promise<Buffer> {
  for (;;) {
    const bytes = stream.read(count) as Buffer | null;
    if (bytes !== null && bytes.length === count) return bytes;
    if (stream.readableEnded || stream.destroyed) throw new PostgresWireError("closed");
    await new Promise<void>((resolve) => {
      const done = (): void => {
        stream.off("readable", done).off("end", done).off("close", done).off("error", done);
        resolve();
      };
      stream.once("readable", done).once("end", done).once("close", done).once("error", done);
    });
  }
}

/** The first thing that a client sends. */
export interface Startup {
  readonly code: number;
  /** Of a start-up message: names and values. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly raw: Buffer;
}

/** @see PostgreSQL documentation, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest, CancelRequest */
export async function readStartup(stream: Duplex): Promise<Startup> {
  const length = (await readExactly(stream, 4)).readInt32BE(0);
  if (length < 8 || length > MAX_MESSAGE_BYTES) throw new PostgresWireError("startup");
  const body = await readExactly(stream, length - 4);
  const code = body.readInt32BE(0);
  const head = Buffer.alloc(4);
  head.writeInt32BE(length);
  const texts = code >> 16 === 3 ? body.subarray(4).toString("utf8").split("\0") : [];
  const parameters = new Map<string, string>();
  for (let at = 0; at + 1 < texts.length && texts[at] !== ""; at += 2)
    parameters.set(texts[at] as string, texts[at + 1] as string);
  return { code, parameters, raw: Buffer.concat([head, body]) };
}

/** A start-up message. */
export function startupMessage(parameters: ReadonlyMap<string, string>): Buffer {
  const text = [...parameters].map(([name, value]) => `${name}\0${value}\0`).join("");
  const body = Buffer.from(`${text}\0`);
  const head = Buffer.alloc(8);
  head.writeInt32BE(body.length + 8);
  head.writeInt32BE(PROTOCOL_3, 4);
  return Buffer.concat([head, body]);
}

/** A message of a session: its type and what follows the length. */
export function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, "latin1");
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

/** An error that ends a connection, as psql shows it. */
export function fatal(sqlState: string, text: string): Buffer {
  return message("E", Buffer.from(`SFATAL\0VFATAL\0C${sqlState}\0M${text}\0\0`));
}

async function readMessage(stream: Duplex): Promise<{ type: string; body: Buffer }> {
  const head = await readExactly(stream, 5);
  const length = head.readInt32BE(1);
  if (length < 4 || length > MAX_MESSAGE_BYTES) throw new PostgresWireError("message");
  return { type: head.toString("latin1", 0, 1), body: await readExactly(stream, length - 4) };
}

const OK = 0;
const SASL = 10;
const SASL_CONTINUE = 11;
const SASL_FINAL = 12;
const MECHANISM = "SCRAM-SHA-256";

/**
 * Proves us to a server that was sent a start-up message, by SCRAM alone: whoever asks for the password itself, or a hash of
 * it that he could use again, gets nothing.
 *
 * @returns an error message of the server, to be passed on, or undefined when the session begins
 * @throws {PostgresWireError}, {ScramError}
 */
export async function authenticate(stream: Duplex, password: string): Promise<Buffer | undefined> {
  const scram = createScramClient(password);
  let isProved = false;
  for (;;) {
    const { type, body } = await readMessage(stream);
    if (type === "E") return message(type, body);
    // A server may tell about protocol options first; nobody asked for any.
    if (type === "v" || type === "N") continue;
    if (type !== "R" || body.length < 4) throw new PostgresWireError("authentication");
    switch (body.readInt32BE(0)) {
      case SASL: {
        if (!body.subarray(4).toString("latin1").split("\0").includes(MECHANISM))
          throw new PostgresWireError("mechanism");
        const first = Buffer.from(scram.first);
        const length = Buffer.alloc(4);
        length.writeInt32BE(first.length);
        stream.write(message("p", Buffer.concat([Buffer.from(`${MECHANISM}\0`), length, first])));
        break;
      }
      case SASL_CONTINUE:
        stream.write(message("p", Buffer.from(scram.final(body.subarray(4).toString("latin1")))));
        break;
      case SASL_FINAL:
        scram.check(body.subarray(4).toString("latin1"));
        isProved = true;
        break;
      case OK:
        // A server that lets anybody in, or asks by a way without proof, is not the one the role was made at.
        if (!isProved) throw new ScramError("no proof of the server");
        return undefined;
      default:
        throw new PostgresWireError("method");
    }
  }
}
