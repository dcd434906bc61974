/** INV-28 in a real browser: what HTTP alone cannot show. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, beforeEach, test } from "node:test";
import type { Page } from "playwright-core";
import { work } from "../approvals/approval-stage.ts";
import { consoleStage } from "../console/console-stage.ts";
import { plain } from "../proxy/stage.ts";
import { startBrowser, watched, WITHOUT } from "./chromium.ts";

/** Each of them, milliseconds. */
const WITHIN = { timeout: 60_000, skip: WITHOUT };

const t = { after };
const s = WITHOUT === false ? await consoleStage(t) : undefined;
const browser = await startBrowser(t);

/** The stage; tests without a browser are skipped before they ask. */
function here(): NonNullable<typeof s> {
  assert.ok(s);
  return s;
}

beforeEach(() => {
  if (s === undefined) return;
  s.crm.seen.length = 0;
  s.crm.answer = plain;
});

async function signIn(page: Page): Promise<void> {
  await page.getByLabel("Operator key").fill(here().w.operatorKey);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

for (const javaScriptEnabled of [true, false])
  test(
    `an operator signs in with the key, approves an actual call and it goes through once, JavaScript ${javaScriptEnabled ? "on" : "off"}`,
    WITHIN,
    async (at) => {
      const { w, crm } = here();
      const { page, calm } = await watched(at, browser, { origins: [w.server.issuer], javaScriptEnabled });
      const { post, waits } = await work(here());
      const body = { name: "Ann", on: javaScriptEnabled };
      const { approval } = await waits(body);
      await page.goto(approval.uri);
      assert.match(page.url(), /\/console\/sign-in\?next=/);
      await signIn(page);
      assert.equal(page.url(), approval.uri, "one comes to the page that was wanted");
      await page.getByText('"Ann"').first().waitFor();
      // Enter in the field decides nothing; a reason is needed.
      await page.getByLabel("Why").fill("known customer");
      await page.getByLabel("Why").press("Enter");
      await page.getByLabel("Why").fill("");
      await page.getByRole("button", { name: "Approve once" }).click();
      assert.equal(await page.locator(".state").textContent(), "pending");
      assert.equal((await post(body)).status, 403);
      await page.getByLabel("Why").fill("known customer");
      await page.getByRole("button", { name: "Approve once" }).click();
      await page.getByText("Approved", { exact: true }).waitFor();
      assert.equal(page.url(), approval.uri);
      assert.equal(await page.locator(".state").textContent(), "approved");
      // Loading it again, and going back, decides nothing again.
      await page.reload();
      await page.goBack();
      await page.goto(approval.uri);
      assert.equal((await post(body)).status, 200);
      assert.equal(crm.seen.length, 1);
      await page.reload();
      assert.equal(await page.locator(".state").textContent(), "used");
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByRole("heading", { name: "Sign in" }).waitFor();
      await page.goto(approval.uri);
      assert.match(page.url(), /\/console\/sign-in/);
      calm();
    },
  );

test("A-ADM-02 A-APP-05 hostile text in everything an agent writes is inert, visible and whole", WITHIN, async (at) => {
  const { w } = here();
  const { page, calm } = await watched(at, browser, { origins: [w.server.issuer] });
  const payloads = [
    `"><script>alert(1)</script>`,
    `<img src=x onerror=alert(1)>`,
    `<svg onload=alert(1)>`,
    `' onmouseover='alert(1)`,
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "{{constructor.constructor('alert(1)')()}}",
    "</pre></section><form action=https://evil.example><button>Approve once</button></form>",
    `<meta http-equiv=refresh content="0;url=https://evil.example">`,
    `<link rel=stylesheet href=https://evil.example/x.css>`,
    `<base href=https://evil.example/>`,
    `<style>*{display:none}</style>`,
    "\u202egnp.exe\u2066 \u200b\u0007",
    "https://pаypal.example/login",
  ];
  const tail = `end-${"z".repeat(20)}`;
  const body = {
    list: payloads,
    members: Object.fromEntries(payloads.map((text, i) => [text, i])),
    long: `${"0123456789".repeat(10_000)}${tail}`,
  };
  const { waits } = await work(here());
  const { approval } = await waits(body, { query: `?q=${encodeURIComponent(payloads[0] ?? "")}` });
  await page.goto(approval.uri);
  await signIn(page);
  const pre = page.locator("section.theirs pre").nth(1);
  const text = (await pre.textContent()) ?? "";
  const shown = JSON.parse(text) as { body: typeof body };
  assert.deepEqual(shown.body, body, "what is on the page reads back as what was sent");
  // oxlint-disable-next-line no-control-regex -- exactly what must not be there
  assert.doesNotMatch(text, /[\u202e\u2066\u200b\u0007]/);
  assert.equal((await page.locator("mark.unseen").count()) >= 6, true);
  assert.equal((await page.locator("mark.lookalike").count()) >= 1, true);
  assert.ok(((await page.locator(".alarm").textContent()) ?? "").includes("Look twice"));
  // Nothing of it became an element, and the page is still ours.
  assert.equal(
    await page.locator(".theirs").locator("script, img, svg, form, a, style, link, meta, base, iframe, button").count(),
    0,
  );
  assert.equal(await page.locator("form.decide").count(), 1);
  assert.equal(await page.getByRole("button", { name: "Approve once" }).count(), 1);
  assert.equal(new URL(await page.evaluate("document.baseURI")).origin, w.server.issuer);
  // The end of it can be scrolled to, and a page is no wider than its window.
  await page.getByText(tail).scrollIntoViewIfNeeded();
  await page.mouse.move(300, 300);
  assert.equal(await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), true);
  await page.getByLabel("Why").fill(payloads[0] ?? "");
  await page.getByRole("button", { name: "Deny" }).click();
  await page.getByText("Denied", { exact: true }).waitFor();
  assert.ok((await page.locator("main").textContent())?.includes(payloads[0] ?? ""));
  await page.goto(`${w.server.issuer}/console/approvals?status=all`);
  calm();
});

test(
  "A-ADM-01 A-ADM-03 another site's page neither decides by a form, nor frames the console, nor reads it, though its reader is signed in; its link works",
  WITHIN,
  async (at) => {
    const { w } = here();
    const { waits, post } = await work(here());
    const { approval } = await waits({ n: 1 });
    // Another site, not just another port: `localhost` to our 127.0.0.1.
    const evil = createServer((req, res) => {
      res.writeHead(200, { "content-type": "text/html" });
      const form = `<form id=f method=post action="${approval.uri}"><input name=decision value=approve><input name=reason value=x></form>`;
      if (req.url === "/form") res.end(`${form}<script>document.getElementById("f").submit()</script>`);
      else if (req.url === "/plain")
        res.end(
          form.replace("method=post", 'method=post enctype="text/plain"') +
            `<script>document.getElementById("f").submit()</script>`,
        );
      else if (req.url === "/frame") res.end(`<iframe src="${approval.uri}"></iframe>`);
      else if (req.url === "/open") res.end(`<a id=a href="${approval.uri}">look</a>`);
      else res.end("");
    });
    await new Promise<void>((resolve) => evil.listen(0, "localhost", resolve));
    at.after(() => {
      evil.closeAllConnections();
      evil.close();
    });
    const other = `http://localhost:${(evil.address() as AddressInfo).port}`;
    const { page, alarms } = await watched(at, browser, { origins: [w.server.issuer, other] });
    await page.goto(`${w.server.issuer}/console/sign-in`);
    await signIn(page);
    for (const path of ["/form", "/plain"]) {
      await page.goto(other + path);
      await page.getByText("That did not come from this console").waitFor();
    }
    alarms.length = 0;
    await page.goto(`${other}/frame`);
    await page.waitForLoadState("networkidle");
    assert.match(alarms.join("\n"), /frame-ancestors|Refused to (?:frame|display)/i);
    const framed = page.frames().map((frame) => frame.url());
    assert.ok(
      framed.every((url) => !url.includes("/console/")),
      framed.join(" "),
    );
    alarms.length = 0;
    await page.goto(`${other}/open`);
    const read = await page.evaluate(
      `fetch(${JSON.stringify(approval.uri)}, { credentials: "include" }).then((r) => r.text(), () => "refused")`,
    );
    assert.equal(read, "refused");
    await page.locator("#a").click();
    await page.getByRole("heading", { name: "release-bot wants to call crm" }).waitFor();
    assert.equal(page.url(), approval.uri);
    assert.equal(await page.locator(".state").textContent(), "pending");
    assert.equal((await post({ n: 1 })).status, 403);
  },
);

test("on a phone the page needs no sideways scrolling and each field has its label", WITHIN, async (at) => {
  const { w } = here();
  const { waits } = await work(here());
  const { approval } = await waits({ note: "x".repeat(2_000), deep: { a: { b: { c: ["y".repeat(300)] } } } });
  const { page, calm } = await watched(at, browser, {
    origins: [w.server.issuer],
    viewport: { width: 360, height: 640 },
  });
  for (const path of [
    "/console/sign-in",
    "/console",
    "/console/approvals",
    "/console/you",
    `/console/approvals/${approval.id}`,
  ]) {
    await page.goto(w.server.issuer + path);
    if (await page.getByLabel("Operator key").isVisible()) {
      assert.equal(await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), true, "sign-in");
      await signIn(page);
      await page.goto(w.server.issuer + path);
    }
    assert.equal(await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), true, path);
    assert.equal(await page.locator("h1").count(), 1, path);
    const bare = await page.evaluate(
      `[...document.querySelectorAll("input:not([type=hidden])")].filter((one) => one.labels.length === 0).length`,
    );
    assert.equal(bare, 0, path);
  }
  calm();
});
