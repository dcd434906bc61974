/** A-OPS-09, INV-30: what is unsafe or wrong stops the real program, says why, and tells no secret. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ownDatabase } from "../support/own-database.ts";
import { cleanEnvironment, run } from "../support/replicas.ts";

const folder = await mkdtemp(join(tmpdir(), "ephor-wrong-"));
after(() => rm(folder, { recursive: true, force: true }));
const SECRET = "s3cret-value-that-nobody-shall-see-0123456789";

interface Wrong {
  readonly env?: Record<string, string>;
  readonly yaml?: string;
  readonly args?: readonly string[];
  /** What the message must name. */
  readonly says: RegExp;
}

const file = async (name: string, text: string, mode = 0o600): Promise<string> => {
  const path = join(folder, name);
  await writeFile(path, text);
  await chmod(path, mode);
  return path;
};
const taken = createServer();
await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
after(() => taken.close());
const takenPort = (taken.address() as AddressInfo).port;
const unsafe = await ownDatabase({ after }, { durable: false });

const CASES: Record<string, Wrong> = {
  "an http issuer of another machine": {
    env: { EPHOR_ISSUER: "http://sts.acme.example" },
    says: /EPHOR_ISSUER.*https/s,
  },
  "an issuer that ends with a slash": {
    env: { EPHOR_ISSUER: "https://sts.acme.example/" },
    says: /EPHOR_ISSUER.*slash/s,
  },
  "a life above 59 s": { yaml: "tokens: { ttl: 60s }\n", says: /ephor\.yaml.*tokens\.ttl.*59/s },
  "a public listener without issuer": { env: { EPHOR_LISTEN: "0.0.0.0:0", EPHOR_ISSUER: "" }, says: /issuer/ },
  "no check of certificates": { env: { NODE_TLS_REJECT_UNAUTHORIZED: "0" }, says: /NODE_TLS_REJECT_UNAUTHORIZED/ },
  "an unknown variable": { env: { EPHOR_ISUER: "https://x.example" }, says: /EPHOR_ISUER.*EPHOR_ISSUER/s },
  "an unknown key": { yaml: "isuer: https://x.example\n", says: /isuer.*issuer/s },
  "a key twice": { yaml: "data: a\ndata: b\n", says: /data/ },
  "an example password": {
    env: { DATABASE_URL: "postgres://ephor:changeme@127.0.0.1:1/ephor" },
    says: /DATABASE_URL.*example/s,
  },
  "an operator key that is none": {
    env: { EPHOR_OPERATOR_KEY: `ephor_op_${"a".repeat(43)}` },
    says: /EPHOR_OPERATOR_KEY/,
  },
  "a key file that everybody can read": {
    env: { EPHOR_KEK: `file:${await file("kek", SECRET, 0o644)}` },
    says: /chmod/,
  },
  "a key file that holds no key": { env: { EPHOR_KEK: `file:${await file("short", SECRET)}` }, says: /kek|key/i },
  "a database that is not there": {
    env: { DATABASE_URL: `postgres://ephor:${SECRET}@127.0.0.1:1/ephor` },
    says: /DATABASE_URL/,
  },
  "a database whose commits are not durable": { env: { DATABASE_URL: unsafe.url }, says: /fsync/ },
  "a port that is taken": { env: { EPHOR_LISTEN: `127.0.0.1:${takenPort}` }, says: /taken/ },
  "a configuration file that is not there": { args: ["--config", join(folder, "nowhere.yaml")], says: /nowhere\.yaml/ },
  "an argument that nobody knows": { args: ["--wokers", "2"], says: /wokers/ },
};

test("A-OPS-09 each of these stops the start with a message that helps, and tells no secret", async () => {
  const names = Object.keys(CASES);
  const next = async (): Promise<void> => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const { env = {}, yaml, args = [], says } = CASES[name] as Wrong;
      const data = await mkdtemp(join(folder, "data-"));
      const config = yaml === undefined ? {} : { EPHOR_CONFIG: join(data, "ephor.yaml") };
      if (yaml !== undefined) await writeFile(join(data, "ephor.yaml"), yaml, { mode: 0o600 });
      const { child, ended, said, out } = run(["serve", ...args], {
        ...cleanEnvironment(),
        EPHOR_DATA: data,
        EPHOR_LISTEN: "127.0.0.1:0",
        EPHOR_ISSUER: "https://sts.acme.example",
        ...config,
        ...env,
      });
      child.stderr?.on("data", () => said().includes("listens on") && child.kill("SIGKILL"));
      const code = await ended;
      const text = said() + out();
      assert.ok(code === 1 || code === 2, `${name}: ended with ${code}: ${text}`);
      assert.match(text, says, name);
      assert.ok(!text.includes(SECRET), name);
      assert.doesNotMatch(text, /\n\s+at /, `${name}: a stack instead of a message`);
    }
  };
  await Promise.all([next(), next()]);
});

test("A-OPS-09 a trust file that cannot be applied stops the start, line by line", async () => {
  const trust = await file(
    "trust.yaml",
    "agents:\n  bot:\n    owner: dana@acme.example\n    trust: [{ issuer: nobody, claims: { sub: x } }]\n",
  );
  const own = await ownDatabase({ after }, { durable: true });
  const { ended, said } = run(["serve"], {
    ...cleanEnvironment(),
    EPHOR_DATA: await mkdtemp(join(folder, "data-")),
    EPHOR_LISTEN: "127.0.0.1:0",
    EPHOR_ISSUER: "https://sts.acme.example",
    DATABASE_URL: own.url,
    EPHOR_TRUST: trust,
  });
  assert.equal(await ended, 1);
  assert.match(said(), /trust\.yaml.*line 4.*nobody|trust\.yaml.*line 4.*issuer/s);
});
