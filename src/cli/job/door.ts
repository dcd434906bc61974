import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { awsContainerAnswer } from "../credential/formats.ts";
import type { Handles } from "./handles.ts";
import type { Leases } from "./leases.ts";
import { refuseStranger, StrangerError } from "./peer.ts";

/** Longest that an answer may take, in milliseconds: what AWS's clients wait at least. */
const REQUEST_LIMIT_MS = 30_000;

/** The local door: HTTP on loopback, for the command's own helpers. */
export interface Door {
  readonly origin: string;
  /** From now on descendants of this process may ask; before, nobody. */
  admit(commandPid: number): void;
  close(): Promise<void>;
}

/** What the door needs. */
export interface DoorDeps {
  readonly leases: Leases;
  readonly handles: Handles;
  /** Names of the resources that may be asked for. */
  readonly resources: readonly string[];
  /** Told of a request that failed: which resource, and why; for the person who started the command. */
  readonly failed: (resource: string, error: unknown) => void;
  /** Told of a request that was refused before anything was asked for. */
  readonly refused: (why: string) => void;
}

/**
 * Opens it on a free port. `GET /credential/NAME` answers what the server answered; `GET /aws/NAME` the same as AWS's
 * container credentials endpoint would. A browser cannot ask: another Host, an Origin or `Sec-Fetch-Site` is refused, and the
 * token is in a file that no page can read.
 *
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
 */
export async function openDoor(deps: DoorDeps): Promise<Door> {
  let commandPid: number | undefined;
  const server = createServer({ requestTimeout: REQUEST_LIMIT_MS, keepAliveTimeout: 1_000 }, (req, res) => {
    const { port } = server.address() as AddressInfo;
    answer(deps, req, { port, commandPid }).then(
      (result) => write(res, result),
      (error: unknown) => {
        deps.refused(error instanceof StrangerError ? error.message : "internal");
        write(res, {
          status: 403,
          body: { code: "Forbidden", message: "This door is for the command that ephor run started." },
        });
      },
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: 0 }, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    admit(pid) {
      commandPid = pid;
    },
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

interface Answer {
  readonly status: number;
  readonly body: object;
}

/** @throws {StrangerError} */
async function answer(
  deps: DoorDeps,
  req: IncomingMessage,
  at: { port: number; commandPid: number | undefined },
): Promise<Answer> {
  refuseBrowser(req, at.port);
  const said = req.headers.authorization ?? "";
  if (!deps.handles.isToken(said.replace(/^Bearer +/i, ""))) throw new StrangerError("no token, or an old one");
  if (at.commandPid === undefined) throw new StrangerError("the command has not started");
  await refuseStranger({ peerPort: req.socket.remotePort ?? 0, ownPort: at.port }, at.commandPid);
  const [, face, resource] = /^\/(aws|credential)\/([a-z0-9-]{1,63})$/.exec(req.url ?? "") ?? [];
  if (req.method !== "GET" || resource === undefined || !deps.resources.includes(resource))
    return {
      status: 404,
      body: { code: "NotFound", message: "Not given to this command: ephor run --credential NAME." },
    };
  try {
    const vended = await deps.leases.get(resource);
    return { status: 200, body: face === "aws" ? awsContainerAnswer(vended) : vended };
  } catch (error) {
    deps.failed(resource, error);
    return { status: 502, body: { code: "NotVended", message: "Ephor refused, or is away; ephor run has said why." } };
  }
}

/** Pages reach loopback by tricks of names and forms; each leaves one of these marks. @throws {StrangerError} */
export function refuseBrowser(req: IncomingMessage, port: number): void {
  if (req.headers.host !== `127.0.0.1:${port}`) throw new StrangerError("another Host");
  if (req.headers.origin !== undefined || req.headers["sec-fetch-site"] !== undefined)
    throw new StrangerError("a browser");
}

function write(res: ServerResponse, { status, body }: Answer): void {
  const text = JSON.stringify(body);
  res.writeHead(status, {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(text),
    "Cache-Control": "no-store",
  });
  res.end(text);
}
