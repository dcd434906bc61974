import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createPages } from "../../src/console/pages.ts";
import { eventsOf, until } from "../proxy/stage.ts";
import { consoleStage, FORM, FROM_US, type Browser } from "./console-stage.ts";

const s = await consoleStage({ after });
const { w } = s;
const pages = createPages();
const changing = pages.filter(({ method }) => method === "POST");
const ID = "apr_01J0000000000000000000000A";
const pathOf = (path: string): string => path.replace("{id}", ID).replace("{issuer}", "okta");

/** As this world's trust and time are at the beginning, so that what is refused can be told from what is not. */
async function signedIn(): Promise<{ b: Browser; csrf: string }> {
  const b = s.browser();
  const { csrf } = await b.signIn(w.operatorKey);
  return { b, csrf };
}

test("A-ADM-01 every form that changes something is refused from another site, without its proof, with another's, by GET and by JSON", async () => {
  assert.ok(changing.length >= 3);
  const { b, csrf } = await signedIn();
  const other = await signedIn();
  const fields = { csrf, decision: "approve", reason: "x", key: w.operatorKey };
  const body = new URLSearchParams(fields).toString();
  const form = { "content-type": FORM };
  for (const page of changing) {
    w.clock.advance(60);
    const path = pathOf(page.path);
    const post = (headers: Record<string, string>, text = body) => b.send("POST", path, { headers, body: text });
    const label = (what: unknown): string => `${page.path} ${JSON.stringify(what)}`;
    const foreign: Record<string, string>[] = [
      form,
      { ...form, "sec-fetch-site": "cross-site" },
      { ...form, "sec-fetch-site": "same-site" },
      { ...form, "sec-fetch-site": "none" },
      { ...form, "sec-fetch-site": "cross-site", origin: w.server.issuer },
      { ...form, "sec-fetch-site": "Same-Origin" },
      { ...form, origin: "https://evil.example" },
      { ...form, origin: "null" },
      { ...form, origin: `${w.server.issuer}.evil.example` },
      { ...form, origin: `${w.server.issuer}/` },
    ];
    for (const headers of foreign) assert.equal((await post(headers)).status, 403, label(headers));
    for (const type of [
      "text/plain",
      "application/json",
      "multipart/form-data; boundary=x",
      "",
      `${FORM}; charset=utf-16`,
    ]) {
      const answer = await post({ "content-type": type, ...FROM_US });
      assert.equal(answer.status, 415, label(type));
    }
    const double = await b.send("POST", path, { headers: { ...FROM_US, "content-type": [FORM, "text/plain"] }, body });
    assert.equal(double.status, 415, label("two types"));
    for (const [name, value] of Object.entries(fields)) {
      const twice = await post({ ...form, ...FROM_US }, `${body}&${name}=${encodeURIComponent(value)}`);
      assert.equal(twice.status, 400, label(`${name} twice`));
    }
    for (const method of ["PUT", "DELETE", "PATCH", "OPTIONS"])
      assert.equal((await b.send(method, path, { headers: FROM_US })).status, 405, label(method));
    if (page.access === "anyone") continue;
    for (const wrong of ["", "x", other.csrf, csrf.slice(1), `${csrf}x`, csrf.toUpperCase(), "x".repeat(200)]) {
      const text = new URLSearchParams({ ...fields, csrf: wrong }).toString();
      assert.equal((await post({ ...form, ...FROM_US }, text)).status, 403, label(wrong));
    }
    const nobody = await s.browser().send("POST", path, { headers: { ...form, ...FROM_US }, body });
    assert.equal(nobody.status, 403, label("signed out"));
  }
  const isRecorded = async (reason: string, agent?: string): Promise<boolean> =>
    (await eventsOf(w, "admin.request")).some(
      (event) => event["reason"] === reason && (agent === undefined || event["agent"] === agent),
    );
  // Written beside the answers.
  await until(() => isRecorded("form_forged", "operator:operator"), "it is recorded whose session it was");
  for (const reason of ["session_missing", "content_type", "parameter_repeated", "method_not_allowed"])
    await until(() => isRecorded(reason), reason);
  assert.equal((await b.get("/console/you")).status, 200, "none of it signed anybody out");
  // An older browser, which sends no Sec-Fetch-Site, shows our own origin.
  const old = await b.send("POST", "/console/sign-out", {
    headers: { ...form, origin: w.server.issuer },
    body: `csrf=${csrf}`,
  });
  assert.equal(old.status, 303);
});

test("A-ADM-01 no GET changes anything: every page, looked at twice, leaves the database as it was", async () => {
  const { b } = await signedIn();
  const state = async (): Promise<string> =>
    JSON.stringify(
      await w.admin(
        `select (select count(*) from ephor.approval_decisions) as d, (select count(*) from ephor.sessions) as s,
           (select json_agg(a.status) from ephor.approvals a) as a,
           (select count(*) from ephor.events where type <> 'admin.request') as e`,
      ),
    );
  await b.get("/console");
  const before = await state();
  // The way back from an issuer can be no POST of ours; people.test.ts sees to it that it does nothing without its cookie.
  for (const page of pages.filter(({ method, path }) => method === "GET" && path !== "/console/callback")) {
    for (const method of ["GET", "HEAD"]) {
      const answer = await b.send(method, pathOf(page.path), { headers: { "sec-fetch-site": "none" } });
      assert.ok([200, 303, 404].includes(answer.status), `${method} ${page.path} ${answer.status}`);
      if (method === "HEAD") assert.equal(answer.text, "");
    }
  }
  assert.equal(await state(), before);
});

test("INV-28 A-ADM-03 every answer forbids scripts, frames, sniffing, referrers, other openers and caches", async () => {
  const { b } = await signedIn();
  const answers = [];
  for (const page of pages) answers.push(await b.send(page.method, pathOf(page.path), { headers: FROM_US }));
  answers.push(
    await b.get("/console/nothing"),
    await s.browser().get("/console"),
    await s.browser().get("/console/sign-in"),
  );
  for (const { headers, text, status } of answers) {
    const policy = String(headers["content-security-policy"]);
    assert.equal(
      policy,
      "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    );
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["referrer-policy"], "no-referrer");
    assert.equal(headers["cross-origin-opener-policy"], "same-origin");
    assert.equal(headers["cross-origin-resource-policy"], "same-origin");
    assert.equal(headers["strict-transport-security"], undefined, "http on loopback");
    if (String(headers["content-type"]).startsWith("text/html")) {
      assert.equal(headers["cache-control"], "no-store", String(status));
      assert.doesNotMatch(text, /<script|\son\w+=|javascript:|style=/i);
      assert.ok(!text.includes(w.operatorKey));
      for (const value of b.jar.values()) assert.ok(!text.includes(value), "the cookie's value is in no page");
    }
  }
});

test("A-ADM-06 queries are taken by a fixed list: forged cursors, other columns, repeats and unknown members are 400", async () => {
  const { b } = await signedIn();
  for (const query of [
    "status=pending'--",
    "status=%25",
    "before=apr_x",
    `before=${ID}'`,
    "before=evt_01J0000000000000000000000A",
    "sort=key_hash",
    "status=all&status=pending",
    "limit=1000000",
    "__proto__=x",
    "status=all&__proto__[a]=b",
    "%ff=1",
    "status=%00",
  ])
    assert.equal((await b.get(`/console/approvals?${query}`)).status, 400, query);
  assert.equal((await b.get(`/console/approvals?status=all&before=${ID}`)).status, 200);
  assert.equal((await b.get("/console?x=1")).status, 400);
  assert.equal((await b.get("/console/you?x")).status, 400);
});

test("A-ADM-07 a field that a form does not have is refused, and decides nothing", async () => {
  const { b } = await signedIn();
  for (const extra of ["role", "operator", "by", "__proto__", "constructor", "status"])
    assert.equal(
      (await b.post(`/console/approvals/${ID}`, { decision: "approve", reason: "x", [extra]: "y" })).status,
      400,
      extra,
    );
});

test("a link of another site brings whoever is signed in to the page by a step of our own, and a stranger to the sign-in", async () => {
  const { b } = await signedIn();
  const path = `/console/approvals/${ID}`;
  // Strict: the browser keeps the cookie at home.
  const bounced = await b.send("GET", path, { headers: { cookie: "", "sec-fetch-site": "cross-site" } });
  assert.equal(bounced.status, 200);
  assert.match(bounced.text, new RegExp(`<meta http-equiv="refresh" content="0; url=${path}" />`));
  assert.doesNotMatch(bounced.text, /csrf/);
  const hostile = await b.send("GET", `/console?a="><script>x`, {
    headers: { cookie: "", "sec-fetch-site": "cross-site" },
  });
  assert.doesNotMatch(hostile.text, /"><script>/);
  const stranger = await s.browser().send("GET", path, { headers: { "sec-fetch-site": "same-origin" } });
  assert.equal(stranger.status, 303);
  const body = "x".repeat(70_000);
  const long = await b.send("POST", path, { headers: { "content-type": FORM, ...FROM_US }, body });
  assert.equal(long.status, 413);
});
