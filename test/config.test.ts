import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { inspect } from "node:util";
import { loadConfig } from "../src/config.ts";
import type { Config, ConfigInput } from "../src/config.ts";
import { ConfigError } from "../src/config/error.ts";
import type { ConfigProblem } from "../src/config/error.ts";

const FILE = "/etc/ephor/ephor.yaml";
const OPERATOR_KEY = "ephor_op_q7Zt0xXbLw3mHc9RfVj2KdPsNa5uYgTe8oEi1BnCr4Mk";

interface Disk {
  [path: string]: string | { text: string; mode: number };
}

/** Loads with nothing but what is given: no variable of this process, no file of this machine. */
function load(
  input: { yaml?: string; disk?: Disk; env?: Record<string, string>; flags?: ConfigInput["flags"] } = {},
): Config {
  const disk: Disk = { ...input.disk, ...(input.yaml !== undefined && { [FILE]: { text: input.yaml, mode: 0o640 } }) };
  return loadConfig({
    ...(input.yaml !== undefined && { file: FILE }),
    env: input.env ?? {},
    flags: input.flags ?? {},
    workingDirectory: "/srv/ephor",
    files: {
      read: (path) => {
        const file = disk[path];
        if (file === undefined) throw new Error("ENOENT");
        return typeof file === "string" ? file : file.text;
      },
      mode: (path) => {
        const file = disk[path];
        return file === undefined ? undefined : typeof file === "string" ? 0o600 : file.mode;
      },
    },
  });
}

/** The problems of a start that is refused. */
function problems(input: Parameters<typeof load>[0]): readonly ConfigProblem[] {
  try {
    load(input);
  } catch (error) {
    assert.ok(error instanceof ConfigError, "refused by something else than ConfigError");
    for (const problem of error.problems) {
      assert.ok(error.message.includes(problem.key), "the message names the key");
      if (problem.file !== undefined) assert.ok(error.message.includes(problem.file), "the message names the file");
    }
    return error.problems;
  }
  return assert.fail("the start was not refused");
}

/** The single problem's key and line. */
function only(input: Parameters<typeof load>[0]): { key: string; line?: number } {
  const found = problems(input);
  assert.equal(found.length, 1, found.map((problem) => `${problem.key} ${problem.problem}`).join("; "));
  const { key, line } = found[0] as ConfigProblem;
  return line === undefined ? { key } : { key, line };
}

describe("configuration", () => {
  it("needs nothing: loopback, embedded database, everything under ./ephor-data", () => {
    const config = load();
    assert.equal(config.issuer, "http://127.0.0.1:8460");
    assert.deepEqual(config.listen, { host: "127.0.0.1", port: 8460 });
    assert.equal(config.database, null);
    assert.equal(config.dataDirectory, "/srv/ephor/ephor-data");
    assert.deepEqual(config.kek, { source: "file:/srv/ephor/ephor-data/kek", value: null });
    assert.deepEqual(config.tasks, { defaultSeconds: 3_600, maxSeconds: 43_200 });
    assert.equal(config.tokens.ttlSeconds, 45);
    assert.equal(config.keys.algorithm, "ES256");
    assert.equal(config.workers, 1);
    assert.equal(config.canarySeconds, 10);
  });

  it("takes a period of the canary, or off", () => {
    assert.equal(load({ yaml: "canary: 30s\n" }).canarySeconds, 30);
    assert.equal(load({ env: { EPHOR_CANARY: "off" } }).canarySeconds, null);
  });

  it("reads every key of the contract's example", () => {
    const config = load({
      yaml: `
issuer: https://sts.acme.example
listen: 0.0.0.0:8460
tls: {cert: tls/cert.pem, key: tls/key.pem}
trusted_proxies: [10.0.0.7, "fd00::/8"]
data: ./ephor-data
database: postgres://ephor@db.acme.example/ephor
kek: file:./ephor-data/kek
anchor: file:/other/disk/anchor
trust: ./trust.yaml
tasks: { default: 30m, max: 6h }
metrics: 127.0.0.1:9460
`,
    });
    assert.equal(config.issuer, "https://sts.acme.example");
    assert.deepEqual(config.tls, { certFile: "/etc/ephor/tls/cert.pem", keyFile: "/etc/ephor/tls/key.pem" });
    assert.deepEqual(config.trustedProxies, ["10.0.0.7", "fd00::/8"]);
    assert.equal(config.dataDirectory, "/etc/ephor/ephor-data", "relative paths of the file start at the file");
    assert.equal(config.database?.reveal(), "postgres://ephor@db.acme.example/ephor");
    assert.deepEqual(config.anchor, { kind: "file", path: "/other/disk/anchor" });
    assert.equal(config.trustFile, "/etc/ephor/trust.yaml");
    assert.deepEqual(config.tasks, { defaultSeconds: 1_800, maxSeconds: 21_600 });
    assert.deepEqual(config.metrics, { host: "127.0.0.1", port: 9460 });
  });

  it("lets a variable beat the file, and a flag beat the variable", () => {
    const yaml = "listen: 127.0.0.1:1001\n";
    assert.equal(load({ yaml }).listen.port, 1001);
    assert.equal(load({ yaml, env: { EPHOR_LISTEN: "127.0.0.1:1002" } }).listen.port, 1002);
    const flags = { listen: "127.0.0.1:1003" };
    assert.equal(load({ yaml, env: { EPHOR_LISTEN: "127.0.0.1:1002" }, flags }).listen.port, 1003);
  });

  it("takes the file from EPHOR_CONFIG, and refuses one that is not there", () => {
    const env = { EPHOR_CONFIG: "conf/ephor.yaml" };
    const disk = { "/srv/ephor/conf/ephor.yaml": "workers: 2\n" };
    assert.equal(load({ env, disk }).workers, 2);
    assert.equal(only({ env }).key, "--config");
  });

  it("freezes what it returns", () => {
    const config = load() as { issuer: string; tasks: { maxSeconds: number } };
    assert.throws(() => (config.issuer = "https://evil.example"), TypeError);
    assert.throws(() => (config.tasks.maxSeconds = 1), TypeError);
  });

  it("reads secrets from files named by _FILE variables and _file keys", () => {
    const disk = { "/run/secrets/db": "postgres://ephor:s3@db.acme.example/ephor\n", "/etc/ephor/op": OPERATOR_KEY };
    assert.equal(
      load({ disk, env: { DATABASE_URL_FILE: "/run/secrets/db" } })
        .database?.reveal()
        .endsWith("/ephor"),
      true,
    );
    assert.equal(load({ disk, env: { EPHOR_OPERATOR_KEY_FILE: "/etc/ephor/op" } }).operatorKey?.reveal(), OPERATOR_KEY);
    assert.equal(load({ disk, yaml: "operator_key_file: op\n" }).operatorKey?.reveal(), OPERATOR_KEY);
  });

  it("reads the kek's variable, or its _FILE twin, and nothing else does", () => {
    const kek = load({ yaml: "kek: env:MY_KEK\n", env: { MY_KEK: "c2VjcmV0" } }).kek;
    assert.equal(kek.source, "env:MY_KEK");
    assert.equal(kek.value?.reveal(), "c2VjcmV0");
    const disk = { "/run/kek": "from-file" };
    const twin = load({ yaml: "kek: env:MY_KEK\n", env: { MY_KEK_FILE: "/run/kek" }, disk }).kek;
    assert.equal(twin.value?.reveal(), "from-file");
    assert.deepEqual(only({ yaml: "kek: env:MY_KEK\n" }), { key: "kek", line: 1 });
  });

  it("is not disturbed by the variables that Kubernetes makes for a service called ephor", () => {
    const env = {
      EPHOR_SERVICE_HOST: "10.0.0.1",
      EPHOR_PORT_8460_TCP_ADDR: "10.0.0.1",
      EPHOR_PORT: "tcp://10.0.0.1:8460",
    };
    assert.equal(load({ env }).listen.port, 8460);
  });
});

describe("INV-30 A-OPS-09 the start is refused", () => {
  const table: [string, Parameters<typeof load>[0], { key: string; line?: number }][] = [
    ["an unknown key", { yaml: "workers: 1\nisuer: https://sts.acme.example\n" }, { key: "isuer", line: 2 }],
    ["an unknown key of a group", { yaml: "tasks:\n  maximum: 1h\n" }, { key: "tasks.maximum", line: 2 }],
    ["an unknown EPHOR_ variable", { env: { EPHOR_ISUER: "https://sts.acme.example" } }, { key: "EPHOR_ISUER" }],
    ["a duplicate key", { yaml: "workers: 1\nworkers: 2\n" }, { key: "workers", line: 2 }],
    ["a duplicate key of a group", { yaml: "tasks: {max: 1h, max: 2h}\n" }, { key: "max", line: 1 }],
    ["broken YAML", { yaml: "workers: 1\nissuer: [\n" }, { key: "(syntax)", line: 3 }],
    ["a list for a file", { yaml: "- a\n" }, { key: "(file)", line: 1 }],
    ["a key without value", { yaml: "workers:\n" }, { key: "workers", line: 1 }],
    ["an alias", { yaml: "data: &a x\ntrust: *a\n" }, { key: "trust", line: 2 }],
    ["an http issuer of another machine", { yaml: "issuer: http://sts.acme.example\n" }, { key: "issuer", line: 1 }],
    ["an issuer with a trailing slash", { yaml: "issuer: https://sts.acme.example/\n" }, { key: "issuer", line: 1 }],
    ["an issuer with a query", { yaml: "issuer: https://sts.acme.example/?a\n" }, { key: "issuer", line: 1 }],
    ["an issuer with user info", { yaml: "issuer: https://a:b@sts.acme.example\n" }, { key: "issuer", line: 1 }],
    ["an issuer with upper case", { yaml: "issuer: https://STS.acme.example\n" }, { key: "issuer", line: 1 }],
    ["an issuer with its default port", { yaml: "issuer: https://sts.acme.example:443\n" }, { key: "issuer", line: 1 }],
    ["a public listener without issuer", { yaml: "listen: 0.0.0.0:8460\n" }, { key: "issuer" }],
    ["a public IPv6 listener without issuer", { yaml: 'listen: "[::]:8460"\n' }, { key: "issuer" }],
    ["a chosen port without issuer", { yaml: "listen: 127.0.0.1:0\n" }, { key: "issuer" }],
    ["a listener that is no address", { yaml: "listen: 8460\n" }, { key: "listen", line: 1 }],
    ["a port beyond the last", { yaml: "listen: 127.0.0.1:65536\n" }, { key: "listen", line: 1 }],
    ["a token life of 60 s", { yaml: "tokens: {ttl: 60s}\n" }, { key: "tokens.ttl", line: 1 }],
    ["a token life of an hour by variable", { env: { EPHOR_TOKENS_TTL: "1h" } }, { key: "EPHOR_TOKENS_TTL" }],
    ["a token life of nothing", { yaml: "tokens: {ttl: 0s}\n" }, { key: "tokens.ttl", line: 1 }],
    ["a duration without unit", { yaml: "tasks: {max: 3600}\n" }, { key: "tasks.max", line: 1 }],
    [
      "a default task longer than the longest",
      { yaml: "tasks:\n  max: 1h\n  default: 2h\n" },
      { key: "tasks.default", line: 3 },
    ],
    ["unchecked certificates", { env: { NODE_TLS_REJECT_UNAUTHORIZED: "0" } }, { key: "NODE_TLS_REJECT_UNAUTHORIZED" }],
    ["a certificate without key", { yaml: "tls: {cert: c.pem}\n" }, { key: "tls.cert", line: 1 }],
    [
      "a proxy list that trusts everybody",
      { yaml: "trusted_proxies: [0.0.0.0/0]\n" },
      { key: "trusted_proxies", line: 1 },
    ],
    ["a proxy that is a name", { yaml: "trusted_proxies: [lb.acme.example]\n" }, { key: "trusted_proxies", line: 1 }],
    ["metrics on the port of the service", { yaml: "metrics: 127.0.0.1:8460\n" }, { key: "metrics", line: 1 }],
    ["an unknown algorithm", { yaml: "keys: {algorithm: HS256}\n" }, { key: "keys.algorithm", line: 1 }],
    ["no workers", { yaml: "workers: 0\n" }, { key: "workers", line: 1 }],
    ["a canary by a word that is none", { yaml: "canary: never\n" }, { key: "canary", line: 1 }],
    ["a canary every 0 s", { yaml: "canary: 0s\n" }, { key: "canary", line: 1 }],
    ["a number in another notation", { yaml: "workers: 0x10\n" }, { key: "workers", line: 1 }],
    ["a kek of an unknown kind", { yaml: "kek: plain:abc\n" }, { key: "kek", line: 1 }],
    ["a database that is none of ours", { env: { DATABASE_URL: "mysql://a:b@c/d" } }, { key: "DATABASE_URL" }],
    [
      "an admin role without database",
      { env: { EPHOR_DATABASE_ADMIN: "postgres://a:b@c/d" } },
      { key: "EPHOR_DATABASE_ADMIN" },
    ],
    [
      "a database password out of an example",
      { env: { DATABASE_URL: "postgres://a:changeme@c/d" } },
      { key: "DATABASE_URL" },
    ],
    [
      "an operator key that is too short",
      { env: { EPHOR_OPERATOR_KEY: "ephor_op_short" } },
      { key: "EPHOR_OPERATOR_KEY" },
    ],
    [
      "an operator key of one letter",
      { env: { EPHOR_OPERATOR_KEY: `ephor_op_${"a".repeat(43)}` } },
      { key: "EPHOR_OPERATOR_KEY" },
    ],
    [
      "applying at the start without a file to apply",
      { yaml: "apply_on_start: true\n" },
      { key: "apply_on_start", line: 1 },
    ],
    ["a boolean that is a word", { yaml: "apply_on_start: yes\ntrust: t.yaml\n" }, { key: "apply_on_start", line: 1 }],
  ];
  for (const [title, input, expected] of table) it(title, () => assert.deepEqual(only(input), expected));

  const readable = { text: "x", mode: 0o644 };
  it("a world-readable kek, and not one that the group may read (A-SEC-05)", () => {
    const yaml = "kek: file:/k\n";
    assert.deepEqual(only({ yaml, disk: { "/k": readable } }), { key: "kek", line: 1 });
    assert.equal(load({ yaml, disk: { "/k": { text: "x", mode: 0o640 } } }).kek.source, "file:/k");
  });

  it("a world-readable kek_previous, one that is not set, and one that is the kek itself", () => {
    const yaml = "kek: file:/k2\nkek_previous: file:/k\n";
    assert.deepEqual(only({ yaml, disk: { "/k": readable } }), { key: "kek_previous", line: 2 });
    assert.deepEqual(load({ yaml }).kekPrevious, { source: "file:/k", value: null });
    assert.equal(load({}).kekPrevious, null);
    assert.deepEqual(only({ yaml: "kek_previous: env:OLD_KEK\n" }), { key: "kek_previous", line: 1 });
    const env = { OLD_KEK: "c2VjcmV0" };
    assert.equal(load({ yaml: "kek_previous: env:OLD_KEK\n", env }).kekPrevious?.value?.reveal(), "c2VjcmV0");
    assert.deepEqual(only({ yaml: "kek: file:/k\nkek_previous: file:/k\n" }), { key: "kek_previous", line: 2 });
  });

  it("a world-readable TLS key", () => {
    const yaml = "tls: {cert: /c, key: /k}\n";
    assert.deepEqual(only({ yaml, disk: { "/c": readable, "/k": readable } }), { key: "tls.key", line: 1 });
  });

  it("a world-readable secret file", () => {
    const disk = { "/op": { text: OPERATOR_KEY, mode: 0o644 } };
    assert.deepEqual(only({ disk, env: { EPHOR_OPERATOR_KEY_FILE: "/op" } }), { key: "EPHOR_OPERATOR_KEY_FILE" });
  });

  it("an empty secret file", () => {
    assert.deepEqual(only({ disk: { "/op": "\n" }, env: { EPHOR_OPERATOR_KEY_FILE: "/op" } }), {
      key: "EPHOR_OPERATOR_KEY_FILE",
    });
  });

  it("a secret and its twin", () => {
    const env = { DATABASE_URL: "postgres://a@b/c", DATABASE_URL_FILE: "/db" };
    assert.deepEqual(only({ disk: { "/db": "postgres://a@b/c" }, env }), { key: "DATABASE_URL" });
  });

  it("all mistakes at once", () => {
    const found = problems({ yaml: "workers: 0\nlisten: x\nissuer: http://a.example\n" });
    assert.deepEqual(found.map(({ key }) => key).sort(), ["issuer", "listen", "workers"]);
  });
});

describe("INV-15 the configuration shows no secret", () => {
  const CANARY = "canary-9f3b1c";

  it("not in the message of a refused start, whatever is wrong with the value", () => {
    const inputs: Parameters<typeof load>[0][] = [
      { yaml: `database: "postgres//ephor:${CANARY}@db/ephor"\n` },
      { yaml: `database: postgres://ephor:${CANARY}@db/ephor\n bad` },
      { yaml: `operator_key: ephor_op_${CANARY}\n` },
      { yaml: `${CANARY}: [\n` },
      { yaml: `issuer: https://a:${CANARY}@sts.acme.example\n` },
      { env: { DATABASE_URL: `postgres:/${CANARY}` } },
      { env: { EPHOR_KEK: `plain:${CANARY}` } },
    ];
    for (const input of inputs) assert.ok(!JSON.stringify(problems(input)).includes(CANARY));
  });

  it("not when the configuration is printed", () => {
    const config = load({
      yaml: "kek: env:MY_KEK\n",
      env: {
        DATABASE_URL: `postgres://a:${CANARY}@b/c`,
        MY_KEK: CANARY,
        EPHOR_OPERATOR_KEY: OPERATOR_KEY,
        AWS_ACCESS_KEY_ID: "AKIA0000000000000001",
        AWS_SECRET_ACCESS_KEY: CANARY,
        AWS_SESSION_TOKEN: CANARY,
      },
    });
    for (const text of [JSON.stringify(config), inspect(config, { depth: 9 }), `${config.database}`]) {
      assert.ok(!text.includes(CANARY) && !text.includes(OPERATOR_KEY));
    }
  });

  it("and keeps it out of a configuration file that everybody can read", (t) => {
    const folder = mkdtempSync(join(tmpdir(), "ephor-config-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, "ephor.yaml");
    writeFileSync(file, "database: postgres://a:b@c/d\n");
    chmodSync(file, 0o644);
    assert.throws(() => loadConfig({ file, env: {} }), ConfigError);
    chmodSync(file, 0o600);
    assert.ok(loadConfig({ file, env: {} }).database);
  });
});

describe("keys of AWS", () => {
  const keys = { AWS_ACCESS_KEY_ID: "AKIA0000000000000001", AWS_SECRET_ACCESS_KEY: "s3cret" };

  it("are those of AWS's own variables, with a session's token where there is one", () => {
    const { aws } = load({ env: keys });
    assert.deepEqual(
      [aws?.accessKeyId, aws?.secretAccessKey.reveal(), aws?.sessionToken],
      ["AKIA0000000000000001", "s3cret", null],
    );
    assert.equal(load({ env: { ...keys, AWS_SESSION_TOKEN: "t" } }).aws?.sessionToken?.reveal(), "t");
  });

  it("are none where one of the two is missing or empty", () => {
    assert.equal(load().aws, null);
    for (const name of Object.keys(keys)) assert.equal(load({ env: { ...keys, [name]: "" } }).aws, null, name);
  });
});
