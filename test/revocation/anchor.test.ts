import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { AnchorError, openAnchor } from "../../src/revocation/anchor.ts";
import { OlderDatabaseError } from "../../src/server/anchor.ts";
import { usualTrust, world, type World } from "../support/world.ts";

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "ephor-anchor-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

test("an anchor only rises, whole, over many writers at once", async (t) => {
  const path = join(await folder(t), "anchor");
  const writers = [openAnchor(path), openAnchor(path), openAnchor(path)];
  assert.equal(await writers[0]?.read(), undefined);
  const positions = Array.from({ length: 30 }, (_, i) => (i * 7) % 31);
  await Promise.all(positions.map((position, i) => writers[i % 3]?.raise({ position })));
  assert.deepEqual(await writers[1]?.read(), { position: 30 });
  await writers[2]?.raise({ head: { seq: 4, jws: "d" } });
  await writers[0]?.raise({ head: { seq: 3, jws: "c" }, position: 2 });
  assert.deepEqual(await writers[1]?.read(), { position: 30, head: { seq: 4, jws: "d" } });
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test("an anchor that was cut, or whose folder is gone, is an error that names the path", async (t) => {
  const path = join(await folder(t), "anchor");
  await writeFile(path, '{"v":1,"posit');
  await assert.rejects(openAnchor(path).read(), AnchorError);
  await assert.rejects(openAnchor(join(path, "no", "folder")).raise({ position: 1 }), AnchorError);
});

async function anchored(t: TestContext): Promise<{ w: World; env: Record<string, string>; path: string }> {
  const path = join(await folder(t), "anchor");
  const env: Record<string, string> = { EPHOR_ANCHOR: `file:${path}` };
  return { w: await world(t, { trust: usualTrust, env }), env, path };
}

const ready = async (url: string): Promise<Record<string, unknown>> => {
  const response = await fetch(`${url}/readyz`);
  return ((await response.json()) as { checks: Record<string, unknown> }).checks;
};

test("a kill is in the anchor before it is answered; a database restored from before it does not start (A-OPS-03, A-OPS-04)", async (t) => {
  const { w, env, path } = await anchored(t);
  assert.equal((await ready(w.url))["anchor"], true);
  const before = JSON.parse(await readFile(path, "utf8")) as { position: number };
  const [copy] = await w.admin<{ epoch: number }>("select epoch from ephor.gate");
  const killed = await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  assert.equal(killed.status, 200, killed.text);
  const now = JSON.parse(await readFile(path, "utf8")) as { position: number };
  assert.ok(now.position > before.position);
  await (await w.replica()).server.close();
  // As a restore of an old backup leaves it.
  await w.admin("delete from ephor.dead_keys");
  await w.admin("update ephor.gate set epoch = $1", [copy?.epoch]);
  await assert.rejects(w.replica(), (error: unknown) => {
    assert.ok(error instanceof OlderDatabaseError);
    assert.match(error.message, /EPHOR_ACCEPT_DATABASE/);
    return true;
  });
  env["EPHOR_ACCEPT_DATABASE"] = "true";
  const accepted = await w.replica();
  assert.equal((await ready(accepted.url))["anchor"], true);
  delete env["EPHOR_ACCEPT_DATABASE"];
  await (await w.replica()).server.close();
});

test("a missing anchor of a database that was there before, or one in the data folder, is told by /readyz", async (t) => {
  const { w, env, path } = await anchored(t);
  // Else it would write the file again, and rightly: it knows its database.
  await w.server.close();
  await rm(path);
  const anew = await w.replica();
  assert.equal((await ready(anew.url))["anchor"], false);
  // Nor does a kill or one more start begin it: only an operator's word does.
  const killed = await fetch(`${anew.url}/v1/kill`, {
    method: "POST",
    headers: { authorization: `Bearer ${w.operatorKey}`, "content-type": "application/json" },
    body: JSON.stringify({ agent: "release-bot", reason: "test" }),
  });
  assert.equal(killed.status, 200, await killed.text());
  const again = await w.replica();
  assert.equal((await ready(again.url))["anchor"], false);
  env["EPHOR_ACCEPT_DATABASE"] = "true";
  const accepted = await w.replica();
  assert.equal((await ready(accepted.url))["anchor"], true);
  delete env["EPHOR_ACCEPT_DATABASE"];
  assert.equal((await ready((await w.replica()).url))["anchor"], true);
  env["EPHOR_ANCHOR"] = `file:${join(w.data, "anchor")}`;
  env["EPHOR_ACCEPT_DATABASE"] = "true";
  const beside = await w.replica();
  assert.equal((await ready(beside.url))["anchor"], false);
});
