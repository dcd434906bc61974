import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { docsPage } from "../../src/http/docs-page.ts";
import { startEdge } from "./edge-server.ts";

describe("/docs", () => {
  it("shows every route and runs and fetches nothing", async (t) => {
    const edge = await startEdge(t);
    const reply = await edge.send("GET", "/docs");
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["content-type"], "text/html; charset=utf-8");
    assert.ok(!/<script|<link|<img|<iframe|\son\w+=|url\(|@import/i.test(reply.text));
    assert.ok(!/(?:src|href)="(?:https?:)?\/\//i.test(reply.text), "no address of another host");
    const { paths } = (await edge.send("GET", "/openapi.json")).json() as {
      paths: Record<string, Record<string, { operationId: string }>>;
    };
    for (const [path, methods] of Object.entries(paths)) {
      assert.ok(reply.text.includes(`<code>${path}</code>`), path);
      for (const { operationId } of Object.values(methods))
        assert.ok(reply.text.includes(`id="${operationId}"`), operationId);
    }
  });

  it("has a policy that allows exactly its own style sheet", async (t) => {
    const reply = await (await startEdge(t)).send("GET", "/docs");
    const policy = String(reply.headers["content-security-policy"]);
    const style = /<style>([^]*?)<\/style>/.exec(reply.text)?.[1] ?? "";
    const digest = createHash("sha256").update(style).digest("base64");
    assert.ok(policy.includes(`style-src 'sha256-${digest}'`));
    assert.ok(policy.includes("default-src 'none'") && policy.includes("frame-ancestors 'none'"));
    assert.ok(!policy.includes("unsafe"));
  });

  it("escapes what it shows", () => {
    const text = "<img src=x onerror=alert(1)>\"'&";
    const operation = {
      operationId: "x",
      tags: ["T"],
      summary: text,
      description: text,
      security: [],
      responses: { 200: { description: text } },
    };
    const page = docsPage({
      info: { title: text, version: text, summary: text, description: text },
      tags: [{ name: "T", description: text }],
      paths: { [`/${text}`]: { get: operation } },
      components: { schemas: { S: { description: text } } },
    });
    assert.ok(!page.includes("<img"));
  });
});
