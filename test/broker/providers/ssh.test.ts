import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { generateKeyPairSync, verify, type KeyObject } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { makeKeyPair } from "../../../src/system/key-pair.ts";
import type { Minted, MintOrder } from "../../../src/broker/provider.ts";
import { ProviderError } from "../../../src/broker/provider-error.ts";
import { createSshProvider } from "../../../src/broker/providers/ssh.ts";
import { makeAgentKey, readAuthority } from "../../../src/broker/providers/ssh-keys.ts";
import { sshSettings, sshRightsOf, type SshSettings } from "../../../src/broker/providers/ssh-settings.ts";
import { SshReader } from "../../../src/broker/providers/ssh-wire.ts";
import { leaseFacts, NO_UPSTREAM, secretText } from "./postgres-stage.ts";

const provider = createSshProvider();
const never = new AbortController().signal;
const run = promisify(execFile);
const KEYGEN = "/usr/bin/ssh-keygen";
const noKeygen = { skip: !existsSync(KEYGEN) && "no ssh-keygen here" };
const ISSUED_AT = 1_795_000_000;
const SETTINGS = { secret: "ssh-ca", principals: ["deploy", "build"] };

const pem = (key: KeyObject): string => key.export({ format: "pem", type: "pkcs8" }) as string;
const ed25519 = makeKeyPair("Ed25519");
const authorities = {
  "ssh-ed25519": ed25519,
  "ecdsa-sha2-nistp256": makeKeyPair("P-256"),
  "rsa-sha2-512": generateKeyPairSync("rsa", { modulusLength: 2048 }),
};

function order(settings: object, changes: Partial<MintOrder<SshSettings>> = {}): MintOrder<SshSettings> {
  return {
    settings: sshSettings.parse({ ...SETTINGS, ...settings }),
    lease: leaseFacts(),
    secrets: new Map([["ssh-ca", secretText(pem(ed25519.privateKey))]]),
    policies: [],
    issuedAt: ISSUED_AT,
    endsAt: ISSUED_AT + 55,
    upstream: NO_UPSTREAM,
    ...changes,
  };
}

function refusal(problem: string) {
  return (error: unknown) => {
    assert.ok(error instanceof ProviderError);
    assert.equal(error.problem, problem);
    assert.equal(error.cause, undefined);
    return true;
  };
}

/** Reads a certificate by PROTOCOL.certkeys, strictly: nothing may be left over. */
function readCertificate(minted: Minted) {
  const [name, base64 = ""] = String(minted.credential["certificate"]).split(" ");
  const bytes = Buffer.from(base64, "base64");
  const reader = new SshReader(bytes);
  const list = (data: Buffer): string[] => {
    const inner = new SshReader(data);
    const all: string[] = [];
    while (!inner.isAtEnd) all.push(inner.text());
    return all;
  };
  const pairs = (data: Buffer): [string, string][] => {
    const inner = new SshReader(data);
    const all: [string, string][] = [];
    while (!inner.isAtEnd) {
      const option = inner.text();
      const value = new SshReader(inner.string());
      all.push([option, value.isAtEnd ? "" : value.text()]);
      assert.ok(value.isAtEnd);
    }
    return all;
  };
  const facts = {
    name,
    type: reader.text(),
    nonce: reader.string(),
    publicKey: reader.string(),
    serial: reader.uint64(),
    kind: reader.uint32(),
    keyId: reader.text(),
    principals: list(reader.string()),
    validAfter: Number(reader.uint64()),
    validBefore: Number(reader.uint64()),
    critical: pairs(reader.string()),
    extensions: pairs(reader.string()),
    reserved: reader.string().length,
    authority: reader.string(),
  };
  const signature = new SshReader(reader.string());
  assert.ok(reader.isAtEnd);
  const algorithm = signature.text();
  const value = signature.string();
  const whole = signature.isAtEnd;
  const signedBytes = bytes.length - 4 - (4 + algorithm.length + 4 + value.length);
  return { ...facts, algorithm, value, whole, signed: bytes.subarray(0, signedBytes) };
}

test("a certificate says who, where and until when, and ends with its lease", async () => {
  const lease = leaseFacts({ sub: "okta|zoë\n@acme" });
  const minted = await provider.mint(
    order(
      { force_command: "/opt/deploy --now", source_address: ["10.0.0.0/8", "::1"], extensions: ["permit-pty"] },
      { lease },
    ),
    never,
  );
  const certificate = readCertificate(minted);
  assert.deepEqual(
    {
      kind: certificate.kind,
      names: [certificate.name, certificate.type],
      keyId: certificate.keyId,
      principals: certificate.principals,
      validAfter: certificate.validAfter,
      validBefore: certificate.validBefore,
      critical: certificate.critical,
      extensions: certificate.extensions,
      nonce: certificate.nonce.length,
      reserved: certificate.reserved,
    },
    {
      kind: 1,
      names: ["ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519-cert-v01@openssh.com"],
      keyId: `triage-bot/${lease.id}/okta|zo..@acme`,
      principals: ["deploy", "build"],
      validAfter: ISSUED_AT - 30,
      validBefore: ISSUED_AT + 55,
      critical: [
        ["force-command", "/opt/deploy --now"],
        ["source-address", "10.0.0.0/8,::1"],
      ],
      extensions: [["permit-pty", ""]],
      nonce: 32,
      reserved: 0,
    },
  );
  assert.deepEqual(minted.marks, [
    { kind: "ssh_serial", value: String(certificate.serial) },
    { kind: "ssh_key_id", value: certificate.keyId },
  ]);
  assert.equal(minted.credential["valid_until"], new Date((ISSUED_AT + 55) * 1000).toISOString().replace(".000", ""));
  assert.equal(provider.residualSeconds(order({}).settings), 0);
});

for (const [algorithm, pair] of Object.entries(authorities)) {
  test(`an authority of ${algorithm} signs what verifies with its public key alone`, async () => {
    const minted = await provider.mint(
      order({}, { secrets: new Map([["ssh-ca", secretText(pem(pair.privateKey))]]) }),
      never,
    );
    const certificate = readCertificate(minted);
    assert.equal(certificate.algorithm, algorithm);
    assert.ok(certificate.whole);
    assert.deepEqual(certificate.authority, readAuthority(pem(pair.privateKey)).publicKey);
    const check = (data: Buffer): boolean => {
      if (algorithm === "ssh-ed25519") return verify(null, data, pair.publicKey, certificate.value);
      if (algorithm === "rsa-sha2-512") return verify("sha512", data, pair.publicKey, certificate.value);
      const numbers = new SshReader(certificate.value);
      const raw = [numbers.mpint(), numbers.mpint()].map((part) =>
        Buffer.concat([Buffer.alloc(32), part]).subarray(-32),
      );
      return verify("sha256", data, { key: pair.publicKey, dsaEncoding: "ieee-p1363" }, Buffer.concat(raw));
    };
    assert.ok(check(certificate.signed));
    const changed = Buffer.from(certificate.signed);
    changed[changed.length - 1]! ^= 1;
    assert.equal(check(changed), false);
  });
}

test("each lease has a key pair and a serial of its own, and the private key is the certificate's", async () => {
  const [one, two] = [await provider.mint(order({}), never), await provider.mint(order({}), never)];
  const [first, second] = [readCertificate(one), readCertificate(two)];
  assert.notDeepEqual(first.publicKey, second.publicKey);
  assert.notEqual(first.serial, second.serial);
  const own = readAuthority(String(one.credential["private_key"]));
  const blob = Buffer.from(String(one.credential["public_key"]).split(" ")[1] ?? "", "base64");
  assert.deepEqual(own.publicKey, blob);
  assert.deepEqual(blob.subarray(-32), first.publicKey);
});

test("a life of a minute or more, or none at all, is refused", async () => {
  for (const endsAt of [ISSUED_AT + 60, ISSUED_AT, ISSUED_AT - 5, Number.NaN]) {
    await assert.rejects(provider.mint(order({}, { endsAt }), never), refusal("cannot_bound"));
  }
  await provider.mint(order({}, { endsAt: ISSUED_AT + 59 }), never);
});

test("policies leave some of the principals, and cannot disagree about the command", async () => {
  const settings = {
    extensions: ["permit-pty"],
    session_policies: {
      deploy: { principals: ["deploy"], force_command: "/opt/deploy", extensions: [] },
      build: { principals: ["build"] },
      other: { force_command: "/opt/other" },
    },
  };
  const certificate = readCertificate(await provider.mint(order(settings, { policies: ["deploy"] }), never));
  assert.deepEqual(
    [certificate.principals, certificate.critical, certificate.extensions],
    [["deploy"], [["force-command", "/opt/deploy"]], []],
  );
  await assert.rejects(
    provider.mint(order(settings, { policies: ["deploy", "build"] }), never),
    refusal("cannot_bound"),
  );
  await assert.rejects(
    provider.mint(order(settings, { policies: ["deploy", "other"] }), never),
    refusal("cannot_bound"),
  );
  await assert.rejects(provider.mint(order(settings, { policies: ["missing"] }), never), refusal("order_refused"));
  assert.deepEqual(sshRightsOf(order(settings).settings, []).principals, ["deploy", "build"]);
});

test("settings name at least one principal and only what OpenSSH would accept", () => {
  const accepts = (changes: object): boolean => sshSettings.safeParse({ ...SETTINGS, ...changes }).success;
  assert.ok(accepts({}));
  for (const changes of [
    { principals: [] },
    { principals: ["a b"] },
    { principals: ["a,b"] },
    { principals: [""] },
    { force_command: "a\nb" },
    { extensions: ["no-touch-required"] },
    { source_address: [] },
    { source_address: ["10.0.0.1/8"] },
    { source_address: ["10.0.0.0/33"] },
    { source_address: ["acme.example"] },
    { source_address: ["10.0.0.0/8,::1"] },
    { session_policies: { more: { principals: ["root"] } } },
    { session_policies: { more: { extensions: ["permit-pty"] } } },
    { force_command: "/opt/a", session_policies: { more: { force_command: "/opt/b" } } },
    { validity: "1h" },
  ]) {
    assert.equal(accepts(changes), false, JSON.stringify(changes));
  }
  for (const range of ["10.0.0.0/8", "10.0.0.1", "10.0.0.1/32", "fd00::/8", "::1/128", "0.0.0.0/0"]) {
    assert.ok(accepts({ source_address: [range] }), range);
  }
});

test("an authority's key that is short, weak, encrypted, cut or something else is refused without a word of it (INV-15)", async () => {
  const bad = [
    "",
    "CANARY",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nQ0FOQVJZ\n-----END OPENSSH PRIVATE KEY-----",
    makeAgentKey("x").privateFile.slice(0, 200),
    makeAgentKey("x").privateFile.replace("AAAA", "AAAB"),
    pem(generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey),
    pem(generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey),
    pem(generateKeyPairSync("x25519").privateKey),
    ed25519.privateKey.export({ format: "pem", type: "pkcs8", cipher: "aes-256-cbc", passphrase: "CANARY" }) as string,
    ed25519.publicKey.export({ format: "pem", type: "spki" }) as string,
  ];
  for (const text of bad) {
    const secrets = new Map([["ssh-ca", secretText(text)]]);
    await assert.rejects(provider.mint(order({}, { secrets }), never), (error: unknown) => {
      assert.doesNotMatch(String((error as Error).stack), /CANARY/);
      return refusal("secret_malformed")(error);
    });
  }
  await assert.rejects(provider.mint(order({}, { secrets: new Map() }), never), refusal("secret_malformed"));
});

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "ephor-ssh-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

test("ssh-keygen reads the certificate and both key files", noKeygen, async (t) => {
  const at = await folder(t);
  const minted = await provider.mint(order({ force_command: "/opt/deploy", extensions: ["permit-pty"] }), never);
  await writeFile(join(at, "id"), String(minted.credential["private_key"]), { mode: 0o600 });
  await writeFile(join(at, "id-cert.pub"), `${String(minted.credential["certificate"])}\n`);
  const { stdout: derived } = await run(KEYGEN, ["-y", "-P", "", "-f", join(at, "id")]);
  assert.equal(derived.split(" ").slice(0, 2).join(" ").trim(), minted.credential["public_key"]);
  const { stdout } = await run(KEYGEN, ["-L", "-f", join(at, "id-cert.pub")], { env: { TZ: "UTC", LC_ALL: "C" } });
  const iso = (seconds: number): string => new Date(seconds * 1000).toISOString().slice(0, 19);
  const [serial, keyId] = minted.marks.map((mark) => mark.value);
  for (const line of [
    "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
    `Key ID: "${keyId}"`,
    `Serial: ${serial}`,
    `Valid: from ${iso(ISSUED_AT - 30)} to ${iso(ISSUED_AT + 55)}`,
    "force-command /opt/deploy",
    "permit-pty",
  ]) {
    assert.ok(stdout.includes(line), `${line}\n${stdout}`);
  }
});

test("authorities made by ssh-keygen are read", noKeygen, async (t) => {
  const at = await folder(t);
  for (const [type, bits, algorithm] of [
    ["ed25519", "256", "ssh-ed25519"],
    ["ecdsa", "256", "ecdsa-sha2-nistp256"],
    ["rsa", "2048", "rsa-sha2-512"],
  ] as const) {
    for (const form of ["RFC4716", "PKCS8"]) {
      const file = join(at, `${type}-${form}`);
      await run(KEYGEN, ["-q", "-t", type, "-b", bits, "-m", form, "-N", "", "-C", "ca", "-f", file]);
      const secrets = new Map([["ssh-ca", secretText(await readFile(file, "utf8"))]]);
      const minted = await provider.mint(order({}, { secrets }), never);
      assert.equal(readCertificate(minted).algorithm, algorithm);
      const [, blob = ""] = (await readFile(`${file}.pub`, "utf8")).split(" ");
      assert.deepEqual(readCertificate(minted).authority, Buffer.from(blob, "base64"));
      // It says "Signing CA" only after it has checked the signature.
      await writeFile(`${file}-cert.pub`, `${String(minted.credential["certificate"])}\n`);
      const { stdout } = await run(KEYGEN, ["-L", "-f", `${file}-cert.pub`]);
      assert.match(stdout, new RegExp(`Signing CA: .* \\(using ${algorithm}\\)`));
    }
  }
  const locked = join(at, "locked");
  await run(KEYGEN, ["-q", "-t", "ed25519", "-N", "CANARY", "-f", locked]);
  const text = await readFile(locked, "utf8");
  assert.throws(() => readAuthority(text), refusal("secret_malformed"));
});
