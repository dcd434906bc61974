import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { CliInput } from "../../src/config/cli.ts";
import { runCli } from "../../src/cli/run.ts";
import { PROGRAM } from "../support/program.ts";

/** An operator key that no server knows. */
export const OPERATOR_KEY = "ephor_op_q7Zt0xXbLw3mHc9RfVj2KdPsNa5uYgTe8oEi1BnCr4Mk";

/** How a command line ended, and what it wrote. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly talk: string;
}

/** Runs a command line in this process with nothing of this machine's environment. */
export async function ephor(
  args: readonly string[],
  env: Record<string, string> = {},
  options: { isTerminal?: boolean; files?: CliInput["files"]; input?: string } = {},
): Promise<Ran> {
  let out = "";
  let talk = "";
  const code = await runCli(args, {
    out: (text) => (out += text),
    talk: (text) => (talk += text),
    program: [process.execPath, PROGRAM],
    input: {
      isTerminal: options.input === undefined,
      read: async () => options.input ?? "",
      chunks: async function* () {
        yield Buffer.from(options.input ?? "");
      },
      readHidden: async () => "",
    },
    isOutTerminal: options.isTerminal === true,
    isTalkTerminal: options.isTerminal === true,
    surroundings: { env, ...(options.files === undefined ? {} : { files: options.files }) },
  });
  return { code, out, talk };
}

/** What a request to a test server was. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** A real HTTP server that answers as a test wants. */
export interface Answering {
  readonly env: Record<string, string>;
  readonly url: string;
  readonly seen: Seen[];
}

/** Starts one on loopback; it ends with the test. */
export async function answering(
  t: { after(fn: () => unknown): void },
  answer: (response: ServerResponse, seen: Seen) => void,
): Promise<Answering> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (chunk: string) => (body += chunk));
    request.on("end", () => {
      const one = { method: request.method ?? "", path: request.url ?? "", headers: request.headers, body };
      seen.push(one);
      answer(response, one);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, seen, env: { EPHOR_URL: url, EPHOR_OPERATOR_KEY: OPERATOR_KEY } };
}

/** Answers with JSON. */
export function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
