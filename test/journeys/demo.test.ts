import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

const launcher = fileURLToPath(new URL("../../scripts/ephor.mjs", import.meta.url));

/** Starts `npm run demo`'s program with a folder for temporary files of its own, so that what it leaves is seen. */
async function demo(t: TestContext, onText: (text: string, signal: (name: NodeJS.Signals) => void) => void = () => {}) {
  const folder = await mkdtemp(join(tmpdir(), "ephor-demo-test-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const child = spawn(process.execPath, [launcher, "demo"], {
    cwd: folder,
    env: { PATH: process.env["PATH"], TMPDIR: folder },
  });
  let out = "";
  let talk = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    onText(out, (name) => child.kill(name));
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => (talk += text));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  const issuer = Number(/process (\d+)/.exec(out)?.[1] ?? 0);
  // tsx keeps what it compiled in a folder of its own there.
  const left = (await readdir(folder)).filter((name) => !/^(tsx-|node-compile-cache)/.test(name));
  return { code, out, talk, issuer, left };
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test("npm run demo does what every one of its steps claims, and leaves nothing", async (t) => {
  const ran = await demo(t);
  assert.equal(ran.code, 0, ran.talk + ran.out);
  for (const line of [
    "1. A CI job exchanges the token of its platform",
    "2. Ada asks, an agent carries her request",
    "3. The agent hands part of the work to a sub-agent",
    "✓ everyone is named: summary-bot, for triage-bot",
    "4. The tool server checks the token",
    "✓ good, signed with ES256",
    "✓ active, with the same chain",
    "✓ refused: 400 invalid_scope",
    "✓ the record says why, for the operator alone: scope_above_ceiling",
    "✓ the record says why, for the operator alone: no_rule_matches",
    "└─ summary-bot  open  may inbox:read_message",
    "7. A database login that exists for this task alone",
    "✓ a real session reads the orders as ephor_triage_bot_",
    "✓ it may read them and nothing else (SQLSTATE 42501)",
    "✓ with the database role among what triage-bot holds",
    "✓ the whole task has ended",
    "✓ the database threw its session out (SQLSTATE 57P01)",
    "✓ its role is gone: the same login is refused (SQLSTATE 28P01)",
    "✓ who still leads from its name to Ada",
    "✓ the record says why, for the operator alone: task_ended",
    "10. An MCP server from the npm registry, behind Ephor's proxy",
    "✓ of the server's tools it is shown the three that are granted",
    "✓ the key is with the server; on its way to the agent it is hidden",
    "✓ refused, with the id of the decision: evt_",
    "✓ it names the smallest grant that would allow it",
    "✓ its token is dead at once",
    "✓ its running tool call was cut",
    "✓ and the next one is not let through",
    "✓ the record says why, for the operator alone: killed",
    "none missing, none changed",
    "npm start",
  ]) {
    assert.ok(ran.out.includes(line), `missing: ${line}\n${ran.out}`);
  }
  assert.match(ran.out, /Done: 12 steps, \d+ claims checked/);
  assert.doesNotMatch(ran.out + ran.talk, /eyJ/, "no token is printed");
  assert.deepEqual(ran.left, []);
  assert.ok(ran.issuer > 0 && !isAlive(ran.issuer));
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`a demonstration that ${signal} interrupts ends with 1 and leaves nothing`, async (t) => {
    let isSent = false;
    const ran = await demo(t, (text, send) => {
      if (isSent || !text.includes("\n1. ")) return;
      isSent = true;
      send(signal);
    });
    assert.equal(ran.code, 1, ran.talk + ran.out);
    assert.doesNotMatch(ran.out, /Done/);
    assert.deepEqual(ran.left, []);
    assert.ok(ran.issuer > 0 && !isAlive(ran.issuer));
  });
}
