import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { sign, verify } from "node:crypto";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { makeKeyPair } from "../../src/system/key-pair.ts";

/** A good one takes some seconds; one that stands still never ends, in real ms. */
const PATIENCE_MS = 60_000;
/** Of keys that were exported as they were made, one in some two thousand made the process stand still. */
const PAIRS = 4_000;

test("a key pair is what it says, and its two halves belong together", () => {
  for (const [type, kty, crv] of [
    ["P-256", "EC", "P-256"],
    ["Ed25519", "OKP", "Ed25519"],
  ] as const) {
    const { privateKey, publicKey } = makeKeyPair(type);
    assert.deepEqual([privateKey.type, publicKey.type], ["private", "public"]);
    const { d, ...jwk } = publicKey.export({ format: "jwk" });
    assert.deepEqual([jwk.kty, jwk.crv, d], [kty, crv, undefined]);
    const digest = type === "P-256" ? "sha256" : null;
    assert.ok(verify(digest, Buffer.from("a"), publicKey, sign(digest, Buffer.from("a"), privateKey)));
    assert.notDeepEqual(makeKeyPair(type).publicKey.export({ format: "jwk" }), jwk);
  }
});

test("keys are exported while the garbage collector runs all the time, and the process goes on", async () => {
  const place = new URL("../../src/system/key-pair.ts", import.meta.url);
  const program = `
    const { makeKeyPair } = await import(${JSON.stringify(place.href)});
    for (let i = 0; i < ${PAIRS}; i++) makeKeyPair("P-256").publicKey.export({ format: "jwk" });
    console.log("done");`;
  const args = ["--max-semi-space-size=1", "--import", "tsx", "--input-type=module", "--eval", program];
  const cwd = fileURLToPath(new URL("../..", import.meta.url));
  const child = spawn(process.execPath, args, { cwd, stdio: ["ignore", "pipe", "inherit"] });
  const late = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(late);
  assert.deepEqual([code, said.trim()], [0, "done"]);
});
