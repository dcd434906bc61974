import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, beforeEach, test } from "node:test";
import { work, type Work } from "../approvals/approval-stage.ts";
import { eventsOf, plain } from "../proxy/stage.ts";
import { ID_TOKEN_TYPE, JWT_TYPE } from "../support/world.ts";
import { consoleStage, type Browser, type Seen } from "./console-stage.ts";

const s = await consoleStage({ after });
const { w, crm } = s;

const DANA = `
  dana:
    email: dana@acme.example
    sign_in: { issuer: okta, claims: { sub: 00dana } }`;
const operators = async (dana = DANA): Promise<void> =>
  await w.apply(
    `
operators:${dana}
  erin:
    sign_in: { issuer: okta, claims: { sub: 00erin } }
    roles: [read]
`,
    "operators.yaml",
  );
await operators();

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
});

/** Signs in at the issuer as a browser does, by way of other sites. */
async function signIn(
  b: Browser,
  sub: string,
  o: { path?: string; ago?: number; nonce?: string; state?: string } = {},
): Promise<Seen> {
  const begun = await b.get(o.path ?? "/console/sign-in/okta?next=/console/approvals");
  assert.equal(begun.status, 303, begun.text);
  const to = new URL(String(begun.headers.location));
  assert.equal(to.origin, w.humans.url);
  const param = (name: string): string => to.searchParams.get(name) ?? "";
  const code = randomBytes(16).toString("hex");
  const claims = { sub, aud: "console", nonce: o.nonce ?? param("nonce"), auth_time: w.now() - (o.ago ?? 0) };
  await w.humans.issueCode({
    code,
    clientId: "console",
    redirectUri: param("redirect_uri"),
    challenge: param("code_challenge"),
    answer: { token_type: "Bearer", id_token: w.humans.mint(claims, { now: w.now() }) },
  });
  const query = new URLSearchParams({ code, state: o.state ?? param("state") });
  // The browser comes from the issuer: what is strict stays at home.
  const strict = b.jar.get("ephor");
  b.jar.delete("ephor");
  const back = await b.send("GET", `/console/callback?${query}`, { headers: { "sec-fetch-site": "cross-site" } });
  if (strict !== undefined && !b.jar.has("ephor")) b.jar.set("ephor", strict);
  return back;
}

async function signedIn(sub: string, o: { ago?: number } = {}): Promise<Browser> {
  const b = s.browser();
  const back = await signIn(b, sub, o);
  assert.equal(back.status, 200, back.text);
  assert.ok(b.jar.has("ephor"));
  assert.equal(b.jar.has("ephor-sign-in"), false);
  return b;
}

/** Work of `triage-bot` for a human, which asks himself. */
const own = async (sub: string): Promise<Work> =>
  await work(s, {
    agent: "triage-bot",
    subject: w.human(sub),
    form: { subject_token_type: ID_TOKEN_TYPE, actor_token: w.workload("triage-bot"), actor_token_type: JWT_TYPE },
  });

test("an operator signs in at the issuer, comes to the page wanted, and decides by his own name", async () => {
  const { post, waits } = await work(s);
  const { approval } = await waits({ n: 1 });
  const page = `/console/approvals/${approval.id}`;
  const b = s.browser();
  const away = await b.get(page);
  const form = await b.get(String(away.headers.location));
  const link = /href="(\/console\/sign-in\/okta[^"]*)"/.exec(form.text)?.[1] ?? "";
  assert.notEqual(link, "");
  const back = await signIn(b, "00dana", { path: link });
  assert.equal(back.status, 200, back.text);
  assert.match(back.text, new RegExp(`url=${page}"`));
  for (const line of back.headers["set-cookie"] ?? []) assert.match(line, /HttpOnly; SameSite=(?:Strict|Lax)/);
  const start = await b.get("/console");
  assert.match(start.text, /signed in as\s+<bdi class="foreign">dana<\/bdi>/);
  await b.get(page);
  assert.equal((await b.post(page, { decision: "approve", reason: "known customer" })).status, 303);
  assert.match((await b.get(page)).text, /operator:dana/);
  assert.equal((await post({ n: 1 })).status, 200);
  assert.equal(crm.seen.length, 1);
  const [event] = await eventsOf(w, "approval.decide");
  assert.equal(event?.["agent"], "operator:dana");
  assert.match(JSON.stringify(event), /"via":"console"/);
  assert.equal((await eventsOf(w, "operator.sign_in"))[0]?.["agent"], "operator:dana");
});

test("A-ADM-09 whoever lost the role, and whoever is no operator, decides nothing that does not ask him, and sees nothing of it", async () => {
  const { waits } = await work(s);
  const { approval } = await waits({ n: 2 });
  const page = `/console/approvals/${approval.id}`;
  const [erin, stranger] = [await signedIn("00erin"), await signedIn("00other")];
  for (const b of [erin, stranger]) {
    assert.match((await b.get("/console")).text, /Nothing waits for you/);
    assert.ok(!(await b.get("/console/approvals?status=all")).text.includes(approval.id));
    const shown = await b.get(page);
    assert.equal(shown.status, 404);
    await b.get("/console/you");
    assert.ok([403, 404].includes((await b.post(page, { decision: "approve", reason: "x" })).status));
    assert.ok([403, 404].includes((await b.post(page, { decision: "deny", reason: "x" })).status));
  }
  const dana = await signedIn("00dana");
  assert.equal((await dana.get(page)).status, 200);
});

test("A-ADM-04 A-APP-04 a removed operator decides nothing from the next request on; a killed human neither, nor after the restore", async () => {
  const { waits, post } = await work(s);
  const { approval } = await waits({ n: 3 });
  const page = `/console/approvals/${approval.id}`;
  const dana = await signedIn("00dana");
  await dana.get(page);
  assert.equal((await w.operator("POST", "/v1/kill", { subject: "okta|00dana", reason: "laptop stolen" })).status, 200);
  assert.equal((await dana.get(page)).status, 403, "an operator stays signed in, and decides nothing");
  await dana.get("/console/you");
  assert.equal((await dana.post(page, { decision: "approve", reason: "x" })).status, 403);
  assert.equal((await w.operator("POST", "/v1/restore", { subject: "okta|00dana", reason: "found" })).status, 200);
  assert.equal(
    (await dana.post(page, { decision: "approve", reason: "x" })).status,
    403,
    "what was opened before stays dead",
  );
  const again = await signedIn("00dana");
  await again.get(page);
  await operators("");
  assert.ok([403, 404].includes((await again.post(page, { decision: "approve", reason: "x" })).status));
  assert.equal((await post({ n: 3 })).status, 403);
  assert.equal(crm.seen.length, 0);
  await operators();
});

test("by: self: the human sees what waits for him and nothing else, signs in afresh, approves it; nobody else does", async () => {
  const { waits, post } = await own("00ann");
  const { approval } = await waits({ n: 4 });
  const page = `/console/approvals/${approval.id}`;
  const other = await (await work(s)).waits({ n: 5 });
  assert.deepEqual(approval.by, ["self"]);
  const bob = await signedIn("00bob");
  assert.equal((await bob.get(page)).status, 404);
  const ann = await signedIn("00ann", { ago: 301 });
  const list = await ann.get("/console/approvals");
  assert.ok(list.text.includes(approval.id) && !list.text.includes(other.approval.id));
  assert.equal((await ann.get(`/console/approvals/${other.approval.id}`)).status, 404);
  const stale = await ann.get(page);
  assert.doesNotMatch(stale.text, /value="approve"/);
  const again = /href="(\/console\/sign-in\/okta\?[^"]*)"/.exec(stale.text)?.[1]?.replaceAll("&amp;", "&") ?? "";
  assert.match(again, /fresh=yes/);
  const tooOld = await ann.post(page, { decision: "approve", reason: "it is mine" });
  assert.equal(tooOld.status, 403);
  assert.match(tooOld.text, /older than five minutes/);
  assert.equal((await eventsOf(w, "approval.decide"))[0]?.["reason"], "sign_in_too_old");
  const back = await signIn(ann, "00ann", { path: again });
  assert.match(back.text, new RegExp(`url=${page}"`));
  assert.match((await ann.get(page)).text, /value="approve"/);
  assert.equal((await ann.post(page, { decision: "approve", reason: "it is mine" })).status, 303);
  assert.equal((await post({ n: 4 })).status, 200);
  const [event] = await eventsOf(w, "approval.decide");
  assert.equal(event?.["agent"], "human:okta|00ann");
});

test("a killed human who is no operator is signed out, and comes in again only after the restore", async () => {
  const ann = await signedIn("00cat");
  assert.equal((await w.operator("POST", "/v1/kill", { subject: "okta|00cat", reason: "test" })).status, 200);
  assert.equal((await ann.get("/console/you")).status, 303);
  const back = await signIn(s.browser(), "00cat");
  assert.equal(back.status, 403);
  assert.match(back.text, /stopped/);
  const [event] = await eventsOf(w, "operator.sign_in");
  assert.deepEqual(
    [event?.["agent"], event?.["decision"], event?.["reason"]],
    ["human:okta|00cat", "refused", "killed"],
  );
  assert.equal((await w.operator("POST", "/v1/restore", { subject: "okta|00cat", reason: "test" })).status, 200);
  assert.equal((await ann.get("/console/you")).status, 303);
  await signedIn("00cat");
});

test("a sign-in that this browser did not begin, that came back twice, or that was changed, signs nobody in and says what to do", async () => {
  const b = s.browser();
  for (const [o, words] of [
    [{ state: "x" }, "sign_in_state"],
    [{ nonce: "x" }, "sign_in_nonce"],
  ] as const) {
    const back = await signIn(b, "00dana", o);
    assert.equal(back.status, 403);
    assert.match(back.text, new RegExp(words));
    assert.match(back.text, /href="\/console\/sign-in"/);
    assert.equal(b.jar.size, 0);
  }
  for (const query of ["", "?code=x&state=y", "?error=access_denied&state=<script>", "?code=1&code=2", "?%ff"]) {
    const back = await b.get(`/console/callback${query}`);
    assert.ok([400, 403].includes(back.status), `${query}: ${back.status}`);
    assert.doesNotMatch(back.text, /<script/);
    assert.equal(b.jar.size, 0);
  }
  assert.equal((await b.get("/console/sign-in/nobody")).status, 404);
  assert.equal((await b.get("/console/sign-in/cluster")).status, 404);
  const begun = await b.get("/console/sign-in/okta?next=//evil.example");
  assert.ok(!String(begun.headers.location).includes("evil"));
});

test("sign-ins that fail are bounded, for each asks the issuer; what a browser did not begin is not counted", async () => {
  w.clock.advance(60);
  const b = s.browser();
  const made = async (): Promise<Seen> => {
    const begun = await b.get("/console/sign-in/okta");
    const state = new URL(String(begun.headers.location)).searchParams.get("state") ?? "";
    return await b.get(`/console/callback?code=made-up&state=${state}`);
  };
  for (let at = 0; at < 40; at++) assert.equal((await b.get("/console/callback?code=x&state=x")).status, 403);
  for (let at = 0; at < 30; at++) assert.equal((await made()).status, 403);
  const held = await made();
  assert.equal(held.status, 429, held.text);
  assert.match(held.text, /Wait a minute/);
  assert.equal((await signIn(s.browser(), "00dana")).status, 429);
  w.clock.advance(60);
  await signedIn("00dana");
});
