import assert from "node:assert/strict";
import { test } from "node:test";
import type { PageRequest } from "../../src/api/pages.ts";
import { startEdge } from "./edge-server.ts";

test("A-ADM-03 pages go out with HSTS under an https issuer, with our headers, and none for other paths", async (t) => {
  const edge = await startEdge(t);
  for (const path of ["/console", "/console/approvals"]) {
    const { status, headers, text } = await edge.send("GET", path);
    assert.deepEqual([status, text], [200, "page"]);
    assert.match(String(headers["strict-transport-security"]), /max-age=31536000/);
    assert.equal(headers["cross-origin-opener-policy"], "same-origin");
    assert.equal(headers["cache-control"], "no-store");
  }
  for (const path of ["/consol", "/consolex", "/Console", "/console/../v1", "//console"])
    assert.ok([400, 404].includes((await edge.send("GET", path)).status), path);
});

test("what a page's maker throws is a plain 500, and the log has the cause", async (t) => {
  const edge = await startEdge(t, {
    deps: {
      console: () => ({
        handle: () => Promise.reject(new Error("secret detail")),
        failed: (requestId) => ({ status: 500, headers: { "Content-Type": "text/html" }, body: `failed ${requestId}` }),
      }),
    },
  });
  const { status, text, headers } = await edge.send("POST", "/console/x", { body: "a=b" });
  assert.deepEqual([status, text], [500, `failed ${String(headers["x-request-id"])}`]);
  assert.match(edge.logLines.join(""), /"http.failed"/);
  assert.doesNotMatch(edge.logLines.join("") + text, /secret detail/);
});

test("a page's maker gets what the browser said, once, and in process nobody but a caller of the session", async (t) => {
  const requests: PageRequest[] = [];
  const answers: unknown[] = [];
  const edge = await startEdge(t, {
    deps: {
      console: (api) => ({
        async handle(request) {
          requests.push(request);
          const caller = { caller: { kind: "operator", id: "op1" }, roles: ["read"] } as const;
          for (const path of [
            "/v1/agents",
            "/v1/approvals",
            "/v1/tasks/01J0000000000000000000000A",
            "/v1/nothing",
            "/token",
          ])
            answers.push([path, (await api({ method: "GET", path, caller, request })).status]);
          answers.push([
            "query",
            (await api({ method: "GET", path: "/v1/agents", query: { x: "y" }, caller, request })).status,
          ]);
          return { status: 200, headers: {}, body: "" };
        },
        failed: () => ({ status: 500, headers: {}, body: "" }),
      }),
    },
  });
  await edge.send("GET", "/console/a%2Fb?c=d", {
    headers: [
      ["Cookie", "a=b"],
      ["Origin", "https://x.example"],
      ["Sec-Fetch-Site", "cross-site"],
    ],
  });
  const [seen] = requests;
  assert.deepEqual(
    [seen?.path, seen?.query, seen?.cookies, seen?.origin, seen?.fetchSite],
    ["/console/a%2Fb", "c=d", "a=b", "https://x.example", "cross-site"],
  );
  assert.deepEqual(answers, [
    ["/v1/agents", 200],
    ["/v1/approvals", 403],
    ["/v1/tasks/01J0000000000000000000000A", 401],
    ["/v1/nothing", 404],
    ["/token", 404],
    ["query", 400],
  ]);
  assert.ok(edge.seen.refusals.some(({ reason, agent }) => reason === "role_missing" && agent === "operator:op1"));
});
