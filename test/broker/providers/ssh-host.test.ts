/** A real sshd of this machine, where there is one that runs; EPHOR_TEST_SSHD names another. */
import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { makeKeyPair } from "../../../src/system/key-pair.ts";
import type { Minted } from "../../../src/broker/provider.ts";
import { createSshProvider } from "../../../src/broker/providers/ssh.ts";
import { makeAgentKey, readAuthority } from "../../../src/broker/providers/ssh-keys.ts";
import { sshSettings } from "../../../src/broker/providers/ssh-settings.ts";
import { eventually } from "../../support/event-receiver.ts";
import { freePort } from "../../support/world.ts";
import { leaseFacts, NO_UPSTREAM, secretText } from "./postgres-stage.ts";

const SSHD = process.env["EPHOR_TEST_SSHD"] ?? "/usr/sbin/sshd";
const SSH = "/usr/bin/ssh";
const ME = userInfo().username;

const provider = createSshProvider();
const never = new AbortController().signal;
const newAuthority = (): string => makeKeyPair("Ed25519").privateKey.export({ format: "pem", type: "pkcs8" }) as string;
const authority = newAuthority();
const host = await startHost();

interface Host {
  readonly port: number;
  readonly folder: string;
  readonly log: () => string;
}

/** @returns why not, where no sshd runs here */
async function startHost(): Promise<Host | string> {
  if (!existsSync(SSHD) || !existsSync(SSH)) return "no sshd or ssh here";
  const folder = await mkdtemp(join(tmpdir(), "ephor-sshd-"));
  after(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, "host"), makeAgentKey("host").privateFile, { mode: 0o600 });
  await writeFile(join(folder, "ca.pub"), `ssh-ed25519 ${readAuthority(authority).publicKey.toString("base64")}\n`);
  const port = await freePort();
  await writeFile(
    join(folder, "config"),
    [
      `Port ${port}`,
      "ListenAddress 127.0.0.1",
      `HostKey ${join(folder, "host")}`,
      `TrustedUserCAKeys ${join(folder, "ca.pub")}`,
      "AuthorizedKeysFile none",
      "PasswordAuthentication no",
      "KbdInteractiveAuthentication no",
      "PermitRootLogin prohibit-password",
      "PidFile none",
      "StrictModes no",
      "UsePAM no",
      "LogLevel VERBOSE",
    ].join("\n"),
  );
  const config = ["-f", join(folder, "config")];
  const checked = spawnSync(SSHD, ["-t", ...config], { encoding: "utf8" });
  if (checked.status !== 0) return `sshd does not run here: ${checked.stderr.trim()}`;
  const sshd = spawn(SSHD, ["-D", "-e", ...config], { stdio: ["ignore", "ignore", "pipe"] });
  after(() => sshd.kill());
  let log = "";
  await new Promise<void>((done, fail) => {
    sshd.stderr.setEncoding("utf8").on("data", (text: string) => {
      log += text;
      if (log.includes("Server listening")) done();
    });
    sshd.once("exit", () => fail(new Error(`sshd ended: ${log}`)));
  });
  return { port, folder, log: () => log };
}

async function mint(
  settings: object,
  { issuedAt, by = authority }: { issuedAt: number; by?: string },
): Promise<Minted> {
  return provider.mint(
    {
      settings: sshSettings.parse({ secret: "ssh-ca", principals: [ME], ...settings }),
      lease: leaseFacts(),
      secrets: new Map([["ssh-ca", secretText(by)]]),
      policies: [],
      issuedAt,
      endsAt: issuedAt + 59,
      upstream: NO_UPSTREAM,
    },
    never,
  );
}

/** Runs a command at the host as the test's own account. */
async function ssh({ port, folder }: Host, minted: Minted, command: string): Promise<string> {
  const at = join(folder, String(minted.marks[0]?.value));
  await mkdir(at);
  await writeFile(join(at, "id"), String(minted.credential["private_key"]), { mode: 0o600 });
  await writeFile(join(at, "id-cert.pub"), String(minted.credential["certificate"]));
  const settings = {
    IdentityFile: join(at, "id"),
    CertificateFile: join(at, "id-cert.pub"),
    IdentitiesOnly: "yes",
    IdentityAgent: "none",
    BatchMode: "yes",
    StrictHostKeyChecking: "no",
    UserKnownHostsFile: "/dev/null",
    LogLevel: "ERROR",
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const { stdout } = await promisify(execFile)(SSH, [
    "-F",
    "/dev/null",
    ...options,
    "-p",
    String(port),
    `${ME}@127.0.0.1`,
    command,
  ]);
  return stdout;
}

const isDenied = { code: 255, stderr: /Permission denied/ };

if (typeof host === "string") {
  test("a host lets a certificate in, and no dead one", { skip: host }, () => {});
} else {
  const now = (): number => Math.floor(Date.now() / 1000);
  /** It comes by another pipe than what a command says. */
  const logged = async (text: string): Promise<unknown> =>
    await eventually(`in the log of sshd: ${text}`, () => (host.log().includes(text) ? true : undefined));

  test("a host runs the forced command, whatever is asked for, and logs the lease", async () => {
    const minted = await mint({ force_command: "echo forced: $SSH_ORIGINAL_COMMAND" }, { issuedAt: now() });
    assert.equal(await ssh(host, minted, "id"), "forced: id\n");
    const [serial, keyId] = minted.marks.map((mark) => mark.value);
    await logged(`ID ${keyId} (serial ${serial})`);
  });

  test("a host runs what is asked for where nothing is forced", async () => {
    assert.equal(await ssh(host, await mint({}, { issuedAt: now() }), "echo mine"), "mine\n");
  });

  test("a host refuses a certificate from its lease's end on", async () => {
    await assert.rejects(ssh(host, await mint({}, { issuedAt: now() - 120 }), "id"), isDenied);
    await logged("Certificate invalid: expired");
  });

  test("a host refuses a certificate for another account, of another authority or from another address", async () => {
    await assert.rejects(ssh(host, await mint({ principals: ["somebody"] }, { issuedAt: now() }), "id"), isDenied);
    await assert.rejects(ssh(host, await mint({}, { issuedAt: now(), by: newAuthority() }), "id"), isDenied);
    await assert.rejects(ssh(host, await mint({ source_address: ["10.9.8.7"] }, { issuedAt: now() }), "id"), isDenied);
    assert.equal(
      await ssh(host, await mint({ source_address: ["127.0.0.0/8"] }, { issuedAt: now() }), "echo in"),
      "in\n",
    );
  });
}
