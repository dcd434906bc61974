import { mkdir } from "node:fs/promises";
import { connect as connectTcp, createServer, isIP, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import type { Vended } from "../../sdk/client/vend.ts";
import { member, optionalMember } from "../credential/members.ts";
import { CliFailure } from "../exit-code.ts";
import {
  authenticate,
  CANCEL_REQUEST,
  fatal,
  GSS_REQUEST,
  message,
  PostgresWireError,
  readExactly,
  readStartup,
  SSL_REQUEST,
  startupMessage,
  type Startup,
} from "./postgres-wire.ts";
import { ScramError } from "./scram.ts";

/** libpq finds a server's socket by the port; any port does. */
const PORT = 5432;
/** Milliseconds for the upstream to take a connection. */
const CONNECT_LIMIT_MS = 15_000;
/** What a client may say of its session; who it is and where it goes is not its to say. */
const PASSED_ON = new Set(["client_encoding", "DateStyle", "TimeZone", "options", "extra_float_digits", "search_path"]);

/** A PostgreSQL server on this machine that is none. */
export interface PostgresDoor {
  /** `PGHOST`: the folder of its socket. */
  readonly host: string;
  /** `PGPORT`. */
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Opens a socket in a folder that only this user may enter. Whoever connects is connected to the upstream as the role of the
 * current lease, which never reaches him: the password is asked for here, anew for each connection. The session is thrown out
 * when the lease ends; psql and pools connect again.
 *
 * @param o.current a lease that is good for a while
 */
export async function openPostgresDoor(o: {
  readonly folder: string;
  readonly resource: string;
  readonly current: () => Promise<Vended>;
  readonly failed: (resource: string, error: unknown) => void;
}): Promise<PostgresDoor> {
  const host = join(o.folder, o.resource);
  await mkdir(host, { mode: 0o700 });
  const open = new Set<Socket>();
  const server = createServer((client) => {
    open.add(client);
    client.once("close", () => open.delete(client));
    client.on("error", () => client.destroy());
    serve(client, o.current).catch((error: unknown) => {
      // Whoever connects and says nothing, or no word of the protocol, is no fault of the upstream's.
      if (!(error instanceof PostgresWireError && error.isClient)) o.failed(o.resource, told(error));
      if (client.writable) client.end(fatal("08006", "ephor could not open this session; ephor run has said why"));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(join(host, `.s.PGSQL.${PORT}`), resolve);
  });
  return {
    host,
    port: PORT,
    async close() {
      for (const client of open) client.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** What went wrong at the upstream, for the person who started the command. */
function told(error: unknown): unknown {
  if (error instanceof ScramError)
    return new CliFailure(
      "the database did not prove that it knows the role's password: it lets people in without one, or the password is not stored as SCRAM-SHA-256",
      { cause: error },
    );
  if (error instanceof PostgresWireError)
    return new CliFailure(`the database does not speak with us as the resource says (${error.message})`, {
      cause: error,
    });
  const { code } = error as { code?: unknown };
  return typeof code === "string"
    ? new CliFailure(`the database cannot be reached (${code})`, { cause: error })
    : error;
}

async function serve(client: Socket, current: () => Promise<Vended>): Promise<void> {
  const startup = await startupOf(client);
  const vended = await current();
  const upstream = await reach(vended);
  // INVARIANT: whichever side goes, both go.
  upstream.on("error", () => upstream.destroy());
  upstream.once("close", () => client.end());
  client.once("close", () => upstream.destroy());
  if (startup.code === CANCEL_REQUEST) {
    upstream.end(startup.raw);
    upstream.resume();
    return;
  }
  const parameters = new Map([...startup.parameters].filter(([name]) => PASSED_ON.has(name)));
  parameters.set("user", member(vended, "username"));
  parameters.set("database", member(vended, "database"));
  parameters.set("application_name", vended.lease);
  upstream.write(startupMessage(parameters));
  const refusal = await authenticate(upstream, member(vended, "password"));
  if (refusal !== undefined) return void client.end(refusal);
  client.write(message("R", Buffer.alloc(4)));
  // A stream that was read by hand flows again only after this turn.
  await new Promise((resolve) => setImmediate(resolve));
  client.pipe(upstream);
  upstream.pipe(client);
}

/** What the client wants. @throws {PostgresWireError} its own fault */
async function startupOf(client: Socket): Promise<Startup> {
  try {
    let startup = await readStartup(client);
    while (startup.code === SSL_REQUEST || startup.code === GSS_REQUEST) {
      // No encryption inside this machine; the upstream's is ours to see to.
      client.write("N");
      startup = await readStartup(client);
    }
    return startup;
  } catch (error) {
    throw error instanceof PostgresWireError ? new PostgresWireError(error.message, true) : error;
  }
}

/** Connects, with TLS where the resource says so; `verify-full` checks the certificate's name. */
async function reach(vended: Vended): Promise<Duplex> {
  const host = member(vended, "host");
  const port = Number(member(vended, "port"));
  const socket = host.startsWith("/") ? connectTcp(join(host, `.s.PGSQL.${port}`)) : connectTcp({ host, port });
  await settled(socket, "connect");
  const sslmode = optionalMember(vended, "sslmode");
  if (sslmode === undefined) return socket;
  const request = Buffer.alloc(8);
  request.writeInt32BE(8);
  request.writeInt32BE(SSL_REQUEST, 4);
  socket.write(request);
  if ((await readExactly(socket, 1)).toString("latin1") !== "S") {
    socket.destroy();
    throw new PostgresWireError("no TLS");
  }
  const ca = optionalMember(vended, "ca");
  const secure = connectTls({
    socket,
    ...(isIP(host) === 0 ? { servername: host } : { host }),
    ...(ca !== undefined && { ca }),
    // libpq's `require` encrypts and believes any certificate, unless a root is named.
    rejectUnauthorized: sslmode !== "require" || ca !== undefined,
  });
  await settled(secure, "secureConnect");
  return secure;
}

async function settled(stream: Duplex, event: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => stream.destroy(new PostgresWireError("timeout")), CONNECT_LIMIT_MS);
    const fail = (error?: Error): void => {
      clearTimeout(timer);
      reject(error ?? new PostgresWireError("closed"));
    };
    stream.once("error", fail).once("close", fail);
    stream.once(event, () => {
      clearTimeout(timer);
      stream.off("error", fail).off("close", fail);
      resolve();
    });
  });
}
