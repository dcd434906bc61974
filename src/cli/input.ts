import type { ReadStream } from "node:tty";
import { CliFailure, EXIT } from "./exit-code.ts";

/** What a command reads from. */
export interface CliInputText {
  readonly isTerminal: boolean;
  /**
   * All of standard input.
   *
   * @param maxBytes longer input is refused
   * @throws {CliFailure} it is longer, or no UTF-8
   */
  read(maxBytes: number): Promise<string>;
  /** Standard input as it comes, until it ends or the signal fires. */
  chunks(signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** One line from the terminal, without showing it. @throws {CliFailure} given up by Ctrl-C */
  readHidden(prompt: string): Promise<string>;
}

const CONTROL_C = "\u0003";
const CONTROL_D = "\u0004";
const ERASE = new Set(["\u0008", "\u007f"]);

/** Reads the process's own standard input. */
export function createInput(stream: ReadStream & NodeJS.ReadableStream, talk: (text: string) => void): CliInputText {
  return {
    isTerminal: stream.isTTY === true,
    async read(maxBytes) {
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of stream) {
        const bytes = Buffer.from(chunk as Uint8Array);
        size += bytes.length;
        if (size > maxBytes) throw wrong(`standard input is longer than ${maxBytes} bytes`);
        chunks.push(bytes);
      }
      try {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks));
      } catch {
        throw wrong("standard input is not UTF-8 text; encode it (base64) first");
      }
    },
    async *chunks(signal) {
      if (signal.aborted) return;
      const stop = (): void => void stream.destroy();
      signal.addEventListener("abort", stop, { once: true });
      try {
        for await (const chunk of stream) yield Buffer.from(chunk as Uint8Array);
      } catch (error) {
        // Whoever fires the signal wants no more of it.
        if (!signal.aborted) throw error;
      } finally {
        signal.removeEventListener("abort", stop);
      }
    },
    async readHidden(prompt) {
      talk(prompt);
      stream.setRawMode(true);
      stream.setEncoding("utf8");
      let line = "";
      try {
        for await (const typed of stream) {
          for (const character of typed as unknown as string) {
            if (character === CONTROL_C) throw new CliFailure("given up");
            if (character === "\r" || character === "\n" || character === CONTROL_D) return line;
            line = ERASE.has(character) ? line.slice(0, -1) : line + character;
          }
        }
        return line;
      } finally {
        stream.setRawMode(false);
        talk("\n");
      }
    },
  };
}

function wrong(message: string): CliFailure {
  return new CliFailure(message, { exitCode: EXIT.wrongUsage });
}
