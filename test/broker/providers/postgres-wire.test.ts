import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { createSecureContext, TLSSocket } from "node:tls";
import { promisify } from "node:util";
import pg from "pg";
import { ProviderError } from "../../../src/broker/provider-error.ts";
import { provider, stage } from "./postgres-stage.ts";

const s = await stage({ after });
const never = new AbortController().signal;
const OPENSSL = "/usr/bin/openssl";
/** Length, and the number that asks for TLS (PostgreSQL protocol, "SSLRequest"). */
const TLS_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/** Listens on a port of this machine for the test's time. */
async function listen(t: TestContext, handle: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    handle(socket);
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return (server.address() as AddressInfo).port;
}

/** On to the real server; `heard` gets what the client says. */
function relay(socket: Socket, heard: (data: Buffer) => void): void {
  const { host, port } = s.settings;
  const real = host.startsWith("/") ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
  real.on("error", () => socket.destroy());
  socket.on("data", heard);
  socket.pipe(real).pipe(socket);
}

test("neither the role's password nor the login's crosses the wire (INV-15)", async (t) => {
  const said: Buffer[] = [];
  const port = await listen(t, (socket) => relay(socket, (data) => said.push(data)));
  const order = s.order({ settings: s.settingsWith({ host: "127.0.0.1", port }) });
  const minted = await provider.mint(order, never);
  const text = Buffer.concat(said).toString("latin1");
  assert.match(text, /create role "ephor_triage_bot_.* password 'SCRAM-SHA-256\$4096:/s);
  assert.ok(!text.includes(String(minted.credential["password"])));
  assert.ok(!text.includes(s.maker.password));
  await provider.destroy?.(s.ended(order, minted), never);
});

test("a server without TLS is told nothing when TLS is wanted", async (t) => {
  const said: Buffer[] = [];
  const port = await listen(t, (socket) => {
    socket.on("data", (data) => said.push(data));
    socket.write("N");
  });
  const order = s.order({ settings: s.settingsWith({ host: "127.0.0.1", port, tls: {} }) });
  await assert.rejects(provider.mint(order, never), (error) => error instanceof ProviderError && error.isTransient);
  assert.deepEqual(Buffer.concat(said), TLS_REQUEST);
});

test("TLS is taken from the named authority only", { skip: !existsSync(OPENSSL) && "no openssl here" }, async (t) => {
  const { key, cert } = await certificate(t);
  const secureContext = createSecureContext({ key, cert });
  let letIn = 0;
  const port = await listen(t, (socket) => {
    socket.once("data", () => {
      socket.write("S");
      const secure = new TLSSocket(socket, { isServer: true, secureContext });
      secure.on("error", () => {});
      relay(secure, () => (letIn += 1));
    });
  });

  const trusting = s.order({ settings: s.settingsWith({ host: "localhost", port, tls: { ca: cert } }) });
  const minted = await provider.mint(trusting, never);
  assert.deepEqual([minted.credential["sslmode"], minted.credential["ca"]], ["verify-full", cert]);
  const url = new URL(String(minted.credential["url"]));
  assert.equal(url.searchParams.get("sslmode"), "verify-full");
  const client = new pg.Client({
    host: "localhost",
    port,
    database: url.pathname.slice(1),
    user: url.username,
    password: url.password,
    ssl: { ca: cert },
  });
  await client.connect();
  await client.query("select note from app.orders");
  await client.end();
  await provider.destroy?.(s.ended(trusting, minted), never);

  letIn = 0;
  const strange = s.order({ settings: s.settingsWith({ host: "localhost", port, tls: {} }) });
  await assert.rejects(provider.mint(strange, never), (error) => {
    assert.ok(error instanceof ProviderError);
    assert.deepEqual([error.problem, error.code], ["unreachable", "DEPTH_ZERO_SELF_SIGNED_CERT"]);
    return true;
  });
  const misnamed = s.order({ settings: s.settingsWith({ host: "127.0.0.1", port, tls: { ca: cert } }) });
  await assert.rejects(provider.mint(misnamed, never), (error) => {
    assert.ok(error instanceof ProviderError);
    assert.deepEqual([error.problem, error.code], ["unreachable", "ERR_TLS_CERT_ALTNAME_INVALID"]);
    return true;
  });
  assert.equal(letIn, 0);
});

/** For `localhost`, signed by itself. */
async function certificate(t: TestContext): Promise<{ key: string; cert: string }> {
  const folder = await mkdtemp(join(tmpdir(), "ephor-tls-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost";
  const place = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert];
  await promisify(execFile)(OPENSSL, [...request.split(" "), ...place]);
  return { key: await readFile(key, "utf8"), cert: await readFile(cert, "utf8") };
}
