import assert from "node:assert/strict";
import { test } from "node:test";
import { readForm } from "../../../src/core/oauth/form.ts";
import { canonicalTarget, isReservedTarget, isTargetUri, readTarget } from "../../../src/core/oauth/target.ts";
import { cpuMs } from "../../support/cpu-time.ts";

const form = (...parameters: [string, string][]) => readForm(Buffer.from(new URLSearchParams(parameters).toString()));
const refuses = (reason: string, ...parameters: [string, string][]) =>
  assert.throws(
    () => readTarget(form(...parameters)),
    { code: "invalid_target", reason },
    JSON.stringify(parameters).slice(0, 90),
  );
const TICKETS = "https://sts.acme.example/mcp/tickets";

test("one target is read as it was sent: an absolute URI, or a name as audience (RFC 8693 §2.1, RFC 8707 §2)", () => {
  assert.equal(readTarget(form(["resource", TICKETS])), TICKETS);
  assert.equal(readTarget(form(["audience", TICKETS])), TICKETS);
  assert.equal(readTarget(form(["audience", "tickets"])), "tickets");
  assert.equal(readTarget(form(["resource", "urn:example:billing"])), "urn:example:billing");
  assert.equal(readTarget(form(["resource", "https://h.example/a?b=c%20d"])), "https://h.example/a?b=c%20d");
});

test("the same target several times is one", () => {
  assert.equal(readTarget(form(["resource", TICKETS], ["audience", TICKETS], ["resource", TICKETS])), TICKETS);
  assert.equal(
    readTarget(form(["resource", "https://h.example/"], ["resource", "https://H.example"])),
    "https://h.example/",
  );
});

test("A-TX-09 none, or two different ones, are refused", () => {
  refuses("target_missing");
  refuses("target_missing", ["resource", ""]);
  refuses("target_several", ["resource", TICKETS], ["resource", "https://other.example"]);
  refuses("target_several", ["resource", TICKETS], ["audience", "billing"]);
  refuses("target_several", ["resource", "https://h.example/a"], ["resource", "https://h.example/A"]);
});

test("A-TX-10 relative, with fragment, with user information or over 2 KiB is refused", () => {
  for (const resource of [
    "tickets",
    "/mcp/tickets",
    "//h.example/a",
    `${TICKETS}#`,
    `${TICKETS}#x`,
    "https://u@h.example/",
    "https://u:p@h.example/",
    "https://h.example/a b",
    "https://h.example/é",
    "https://h.example/%zz",
    "https://h.example\\a",
    "https:",
    ":",
    "1x://h",
    `https://h.example/${"a".repeat(4000)}`,
  ]) {
    refuses("target_malformed", ["resource", resource]);
  }
  refuses("target_malformed", ["resource", TICKETS], ["resource", "relative"]);
  refuses("target_malformed", ["audience", "Not A Name"]);
  refuses("target_malformed", ["audience", "-a"]);
  assert.equal(isTargetUri(`https://h.example/${"a".repeat(2030)}`), true);
  assert.equal(isTargetUri(`https://h.example/${"a".repeat(2031)}`), false);
  assert.equal(isTargetUri("https://h.example/a@b"), true);
});

test("identifiers of cloud STSs are refused, in any spelling (CONTRACT §4)", () => {
  for (const target of [
    "sts.amazonaws.com",
    "STS.amazonaws.com",
    "https://sts.amazonaws.com",
    "https://sts.eu-west-1.amazonaws.com/",
    "sts.cn-north-1.amazonaws.com.cn",
    "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com",
    "urn:amazon:webservices",
    "api://AzureADTokenExchange",
    "api://azureadtokenexchange",
    "api://AzureADTokenExchangeUSGov",
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "https://iam.googleapis.com/projects/1",
    "https://sts.googleapis.com/v1/token",
  ]) {
    assert.equal(isReservedTarget(target), true, target);
    refuses("target_reserved", ["resource", target]);
    refuses("target_reserved", ["audience", target], ["audience", "tickets"]);
    refuses("target_reserved", ["resource", TICKETS], ["audience", target]);
  }
  for (const target of [
    TICKETS,
    "tickets",
    "https://sts.amazonaws.com.evil.example",
    "https://evil.example/sts.amazonaws.com",
    "https://notsts.amazonaws.com",
    "https://s3.amazonaws.com/x",
    "https://iam.googleapis.community/",
    "api://ephor",
  ]) {
    assert.equal(isReservedTarget(target), false, target);
  }
});

test("canonical form changes scheme, host, default port and a lone slash, never the path", () => {
  for (const [sent, canonical] of [
    ["HTTPS://STS.Acme.example:443/MCP/Tickets", "https://sts.acme.example/MCP/Tickets"],
    ["https://h.example/", "https://h.example"],
    ["https://h.example", "https://h.example"],
    ["https://h.example/a/", "https://h.example/a/"],
    ["http://h.example:80/a", "http://h.example/a"],
    ["http://h.example:443/a", "http://h.example:443/a"],
    ["https://h.example?A=B", "https://h.example?A=B"],
    ["https://h.example/%2f", "https://h.example/%2f"],
    ["https://[2001:DB8::1]:443/x", "https://[2001:db8::1]/x"],
    ["urn:Example:X", "urn:Example:X"],
    ["tickets", "tickets"],
  ] as const) {
    assert.equal(canonicalTarget(sent), canonical);
    assert.equal(canonicalTarget(canonical), canonical);
  }
});

test("long hostile texts are judged at once", () => {
  const ms = cpuMs(() => {
    for (const text of [
      `https://${"a.".repeat(500_000)}`,
      `${"sts.".repeat(500_000)}amazonaws.com`,
      `a:${"%".repeat(1_000_000)}`,
    ]) {
      isReservedTarget(text);
      isTargetUri(text);
      canonicalTarget(text);
    }
    for (const text of [`https://${"a.".repeat(1000)}`, `https://${"sts.".repeat(500)}`, `${"a-".repeat(1000)}`])
      isReservedTarget(text);
  });
  assert.ok(ms < 500, `${ms} ms`);
});
