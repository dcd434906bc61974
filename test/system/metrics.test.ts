import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createMetrics } from "../../src/system/metrics.ts";

describe("metrics", () => {
  it("follow Prometheus's conventions: our prefix, base units, total on counters, help on all", async () => {
    const metrics = createMetrics({ version: "1.2.3" });
    const text = await metrics.render();
    const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = "", type = ""]) => ({ name, type }));
    assert.ok(types.length > 10);
    for (const { name, type } of types) {
      assert.match(name, /^ephor_[a-z0-9_]+$/);
      assert.ok(new RegExp(`^# HELP ${name} \\S`, "m").test(text), name);
      // `fetch_total` as in the contract of names; histograms are in seconds or counts.
      assert.equal(type === "counter", name.endsWith("_total"), name);
      assert.ok(!/_(ms|millis|minutes)(_|$)/.test(name), name);
    }
    assert.ok(text.includes('ephor_build_info{version="1.2.3"} 1'));
  });

  it("count for their own server only", async () => {
    const [a, b] = [createMetrics({ version: "1" }), createMetrics({ version: "1" })];
    a.tokenRequests.inc({ grant: "client_credentials", result: "granted" });
    a.httpRequestSeconds.labels("/token", "200").observe(0.003);
    assert.ok((await a.render()).includes('ephor_token_requests_total{grant="client_credentials",result="granted"} 1'));
    assert.ok(
      (await a.render()).includes('ephor_http_request_seconds_bucket{le="0.005",route="/token",status="200"} 1'),
    );
    assert.ok(!(await b.render()).includes('result="granted"'));
  });
});
