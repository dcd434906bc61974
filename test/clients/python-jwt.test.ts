import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test, type TestContext } from "node:test";
import { runningClock } from "../support/hand-clock.ts";
import { settled, world, type World } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
/** The system's own Python: Debian's python3-jwt is installed for that one. */
const PYTHON = "/usr/bin/python3";
const PYTHON_MS = 20_000;

/** What a tool server in Python does; one token a line, one JSON answer a line. */
const SCRIPT = `
import json, sys
import jwt
from jwt import PyJWKClient

jwks_uri, issuer, audience = sys.argv[1:4]
keys = PyJWKClient(jwks_uri)
for line in sys.stdin:
    token = line.strip()
    try:
        if jwt.get_unverified_header(token).get("typ") != "at+jwt":
            raise jwt.InvalidTokenError("typ")
        claims = jwt.decode(
            token,
            keys.get_signing_key_from_jwt(token).key,
            algorithms=["ES256"],
            audience=audience,
            issuer=issuer,
            options={"require": ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"]},
        )
        print(json.dumps({"claims": claims}))
    except jwt.PyJWTError as error:
        print(json.dumps({"refused": type(error).__name__}))
`;

interface Verdict {
  readonly claims?: Record<string, unknown>;
  readonly refused?: string;
}

function python(args: readonly string[], input: string): Promise<{ code: number | null; out: string; error: string }> {
  return new Promise((resolve) => {
    // An empty environment: no proxy, no path of ours.
    const child = spawn(PYTHON, args, { env: {}, timeout: PYTHON_MS });
    let [out, error] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (error += text));
    child.stdin.on("error", () => {});
    child.on("error", (failure) => resolve({ code: null, out, error: failure.message }));
    child.on("close", (code) => resolve({ code, out, error }));
    child.stdin.end(input);
  });
}

/** Whether the second language is here. In CI it must be. */
async function hasPyJwt(t: TestContext): Promise<boolean> {
  const { code, out, error } = await python(["-c", "import jwt, cryptography; print(jwt.__version__)"], "");
  if (code === 0) {
    t.diagnostic(`PyJWT ${out.trim()}`);
    return true;
  }
  const why =
    "python3-jwt and python3-cryptography are not installed: tokens are not verified in another language here";
  t.diagnostic(why);
  assert.notEqual(process.env["CI"], "true", `${why}\n${error}`);
  t.skip(why);
  return false;
}

interface Issued {
  readonly world: World;
  self(form?: Record<string, string>): Promise<string>;
}

const inWorld = (w: World): Issued => ({
  world: w,
  async self(form = {}) {
    const answer = await settled(() => w.self("release-bot", { resource: BILLING, scope: "billing", ...form }));
    assert.equal(answer.status, 200, answer.text);
    return String(answer.body["access_token"]);
  },
});

/** What the tool server says about each of the tokens. */
async function verdicts({ world: { server } }: Issued, tokens: readonly string[]): Promise<Verdict[]> {
  const args = ["-c", SCRIPT, `${server.issuer}/.well-known/jwks.json`, server.issuer, BILLING];
  const { code, out, error } = await python(args, `${tokens.join("\n")}\n`);
  assert.equal(code, 0, error);
  return out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Verdict);
}

test("a tool server in Python (PyJWT) verifies our token by the published keys, and refuses a changed one, a hand-over and an outside one", async (t) => {
  if (!(await hasPyJwt(t))) return;
  const w = inWorld(await world(t, { clock: runningClock() }));
  const good = await w.self();
  const handOver = await w.self({ resource: `${w.world.server.issuer}/agents/summary-bot` });
  const bad = [`${good.slice(0, -6)}AAAAAA`, handOver, w.world.workload("release-bot")];
  const [accepted, ...refused] = await verdicts(w, [good, ...bad]);
  assert.equal(accepted?.claims?.["sub"], "agent|release-bot");
  assert.equal(accepted?.claims?.["scope"], "billing:read_invoice");
  assert.deepEqual(
    refused.map((verdict) => verdict.refused),
    ["InvalidSignatureError", "InvalidAudienceError", "InvalidTokenError"],
  );
});

test("a tool server in Python (PyJWT) refuses our token once it is over", async (t) => {
  if (!(await hasPyJwt(t))) return;
  // Python looks at the real clock, so this server lives an hour ago.
  const w = inWorld(await world(t, { start: Math.floor(Date.now() / 1000) - 3600 }));
  assert.deepEqual(await verdicts(w, [await w.self({ ttl: "59" })]), [{ refused: "ExpiredSignatureError" }]);
});
