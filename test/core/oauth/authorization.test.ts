import assert from "node:assert/strict";
import { test } from "node:test";
import { readBasic } from "../../../src/core/oauth/basic.ts";
import { readBearer } from "../../../src/core/oauth/bearer.ts";
import { cpuMs } from "../../support/cpu-time.ts";

test("the token of a Bearer or DPoP header is read, the scheme in any case (RFC 6750 §2.1, RFC 9449 §7.1)", () => {
  assert.deepEqual(readBearer("Bearer a.b-c_d~e+f/g=="), { scheme: "Bearer", token: "a.b-c_d~e+f/g==" });
  assert.deepEqual(readBearer("bEARER abc"), { scheme: "Bearer", token: "abc" });
  assert.deepEqual(readBearer("dpop  abc"), { scheme: "DPoP", token: "abc" });
});

test("no header, or another scheme, is no token", () => {
  for (const value of [undefined, "", "Basic YTpi", "Bearerx abc", "DPoP-x abc", "abc"])
    assert.equal(readBearer(value), undefined);
});

test("a Bearer header that is not one token is refused", () => {
  for (const value of [
    "Bearer",
    "Bearer ",
    "Bearer a b",
    "Bearer a, Bearer b",
    "Bearer a,b",
    "Bearer\ta",
    "Bearer a ",
    "Bearer =a",
    'Bearer "a"',
    "Bearer é",
    "DPoP",
  ]) {
    assert.throws(() => readBearer(value), { code: "invalid_token", reason: "token_malformed" }, value);
  }
});

test("Basic credentials are form-encoded inside the base64 (RFC 6749 §2.3.1)", () => {
  const header = "Basic YWdlbnQlM0FjaSUyRjQyOnAlMkJzK3MlMjUlQzMlQTQ=";
  assert.deepEqual(readBasic(header), { clientId: "agent:ci/42", clientSecret: "p+s s%ä" });
  const plain = (text: string) => readBasic(`basic ${Buffer.from(text).toString("base64")}`);
  assert.deepEqual(plain("billing:a:b"), { clientId: "billing", clientSecret: "a:b" });
  assert.deepEqual(plain("billing:"), { clientId: "billing", clientSecret: "" });
});

test("no header, or another scheme, is no Basic credentials", () => {
  for (const value of [undefined, "", "Bearer a", "Basicx YTpi"]) assert.equal(readBasic(value), undefined);
});

test("Basic credentials that cannot be read are refused", () => {
  const encoded = (text: string | Buffer) => `Basic ${Buffer.from(text as string).toString("base64")}`;
  for (const value of [
    "Basic",
    "Basic ",
    "Basic YTpi=",
    "Basic YTpiYw",
    "Basic YTp_",
    "Basic YTpi YTpi",
    "Basic YTpi, Basic YTpi",
    "Basic YTpjYx==",
    encoded("no colon"),
    encoded(":secret"),
    encoded("a:%zz"),
    encoded("a:%00"),
    encoded(Buffer.from([0x61, 0x3a, 0xff])),
    encoded(`a:${"x".repeat(3000)}`),
  ]) {
    assert.throws(() => readBasic(value), { code: "invalid_client", reason: "malformed_request" }, value.slice(0, 40));
  }
});

test("a long hostile header is judged at once", () => {
  const ms = cpuMs(() => {
    assert.throws(() => readBearer(`Bearer ${" ".repeat(1 << 20)}`));
    assert.throws(() => readBearer(`Bearer ${"=".repeat(1 << 20)},`));
    assert.throws(() => readBearer(`Bearer a${"=".repeat(1 << 20)},`));
    assert.throws(() => readBasic(`Basic ${"A".repeat(1 << 20)},`));
  });
  assert.ok(ms < 300, `${ms} ms`);
});
