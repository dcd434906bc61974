import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { test } from "node:test";
import { inherited, withGitConfig } from "../../../src/cli/job/environment.ts";
import { createHandles } from "../../../src/cli/job/handles.ts";
import { createLeases } from "../../../src/cli/job/leases.ts";
import { createScramClient, ScramError } from "../../../src/cli/job/scram.ts";
import type { Vended } from "../../../src/sdk/client/vend.ts";

const START = Date.UTC(2026, 10, 22, 12);

test("one lease is served until 15 s before its end, to everybody at once; over two hours each in its turn", async () => {
  let now = START;
  let made = 0;
  const leases = createLeases(
    async (resource): Promise<Vended> => {
      made += 1;
      await Promise.resolve();
      return {
        lease: `lease_${made}`,
        kind: "static",
        expires_at: new Date(now + 45_000).toISOString(),
        residual_seconds: null,
        credential: { value: resource },
      };
    },
    () => now,
  );
  const [one, two] = await Promise.all([leases.get("a"), leases.get("a")]);
  assert.deepEqual([one.lease, two.lease, made], ["lease_1", "lease_1", 1]);
  now = START + 29_999;
  assert.equal((await leases.get("a")).lease, "lease_1");
  now = START + 30_000;
  assert.equal((await leases.get("a")).lease, "lease_2");
  assert.equal((await leases.get("b")).lease, "lease_3");
  for (let second = 0; second < 7_200; second += 10) {
    now = START + 60_000 + second * 1_000;
    const lease = await leases.get("a");
    assert.ok(Date.parse(lease.expires_at) - now > 15_000);
  }
});

test("a vend that failed is not kept: the next one who asks tries again", async () => {
  let fails = true;
  const leases = createLeases(
    async () => {
      if (fails) throw new Error("away");
      return {
        lease: "l",
        kind: "static",
        expires_at: new Date(START + 45_000).toISOString(),
        residual_seconds: 0,
        credential: {},
      };
    },
    () => START,
  );
  await assert.rejects(leases.get("a"));
  fails = false;
  assert.equal((await leases.get("a")).lease, "l");
});

test("the local token is a 0600 file in a folder of its own, rewritten every 30 s, and gone at the end", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const handles = await createHandles(undefined);
  const first = await readFile(handles.tokenFile, "utf8");
  assert.equal((await stat(handles.tokenFile)).mode & 0o777, 0o600);
  assert.equal((await stat(handles.folder)).mode & 0o777, 0o700);
  assert.deepEqual([handles.isToken(first), handles.isToken(`${first}x`), handles.isToken("")], [true, false, false]);
  const changed = async (before: string): Promise<string> => {
    t.mock.timers.tick(30_000);
    for (;;) {
      const now = await readFile(handles.tokenFile, "utf8");
      if (now !== before && handles.isToken(now)) return now;
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const second = await changed(first);
  // Whoever read it just before the change is still let in, once more.
  assert.equal(handles.isToken(first), true);
  await changed(second);
  assert.equal(handles.isToken(first), false);
  await handles.remove();
  await assert.rejects(stat(handles.folder), { code: "ENOENT" });
});

test("platform identity and standing credentials of the vended kinds are taken out, others stay", () => {
  const env = {
    EPHOR_TOKEN: "t",
    CI_JOB_JWT_V2: "j",
    AWS_SESSION_TOKEN: "s",
    GITHUB_TOKEN: "g",
    GITHUB_REPOSITORY: "acme/widgets",
    HOME: "/home/dana",
    COPY: "secret-text\n",
  };
  assert.deepEqual(inherited(env, new Set(["aws"]), ["secret-text"]), {
    GITHUB_TOKEN: "g",
    GITHUB_REPOSITORY: "acme/widgets",
    HOME: "/home/dana",
  });
  assert.deepEqual(Object.keys(inherited(env, new Set(["github_app"]), [])), [
    "AWS_SESSION_TOKEN",
    "GITHUB_REPOSITORY",
    "HOME",
    "COPY",
  ]);
});

test("entries of git's configuration come after those that are there (git-config(1), GIT_CONFIG_COUNT)", () => {
  const env: Record<string, string> = { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "a", GIT_CONFIG_VALUE_0: "b" };
  withGitConfig(env, [["c", "d"]]);
  assert.deepEqual(env, {
    GIT_CONFIG_COUNT: "2",
    GIT_CONFIG_KEY_0: "a",
    GIT_CONFIG_VALUE_0: "b",
    GIT_CONFIG_KEY_1: "c",
    GIT_CONFIG_VALUE_1: "d",
  });
});

test("SCRAM-SHA-256 refuses a server whose nonce does not begin with ours, and one that cannot sign (RFC 5802 §5.1, §9)", () => {
  const client = createScramClient("pencil");
  const nonce = client.first.slice("n,,n=,r=".length);
  assert.throws(() => client.final("r=other,s=c2FsdA==,i=4096"), ScramError);
  assert.throws(() => client.final(`r=${nonce},s=c2FsdA==,i=4096`), ScramError);
  assert.throws(() => client.final(`r=${nonce}more,s=c2FsdA==,i=99999999`), ScramError);
  assert.match(client.final(`r=${nonce}more,s=c2FsdA==,i=4096`), /^c=biws,r=.*more,p=[\w+/]+=*$/);
  assert.throws(() => client.check("v=AAAA"), ScramError);
  assert.throws(() => client.check("e=invalid-proof"), ScramError);
});
