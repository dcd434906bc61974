import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { plain, stage } from "./stage.ts";

const s = await stage(
  { after },
  { grants: "\n  - { agent: release-bot, resource: crm, actions: [write], when: args.amount < 100 }" },
);
const { crm, send, token } = s;

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
});

const post = async (type: string, body = '{"amount":1}'): Promise<number> => {
  const headers = { "content-type": type };
  return (await send("POST", "/http/crm/contacts", { token: await token("crm:write"), headers, body })).status;
};

test("INV-18 a JSON body whose charset would have it read as other JSON is refused; what says UTF-8, or nothing of it, passes", async () => {
  // Read as UTF-7, as servers of Node do that are told to, it has another amount.
  const twofold = '{"amount":1,"note":"+ACIALAAiAGEAbQBvAHUAbgB0ACIAOgA5ADkAOQAsACIAYQAi-:+ACI-"}';
  for (const charset of [
    "utf-7",
    "UTF-7",
    '"utf-7"',
    "utf-16",
    "utf-16le",
    "ibm037",
    "us-ascii",
    "",
    "utf-8x",
    "'utf-8'",
  ])
    assert.equal(await post(`application/json; charset=${charset}`, twofold), 400, charset);
  for (const type of [
    "application/json ; Charset = utf-7",
    "application/json; charset=utf-8; charset=utf-7",
    'application/json; a="b; charset=utf-7',
    "application/json; charset*=utf-7''x",
    "application/json charset=utf-7",
    "application/merge-patch+json;charset=utf-7",
    "application/json;;charset",
  ])
    assert.equal(await post(type, twofold), 400, type);
  assert.equal(crm.seen.length, 0);
  const good = [
    "application/json",
    "application/json;charset=utf-8",
    'application/json; charset="UTF-8"',
    'application/vnd.api+json; ext="https://a.example/b;c"; charset=utf-8',
    "application/json;odata=verbose",
  ];
  for (const type of good) assert.equal(await post(type), 200, type);
  assert.deepEqual(
    crm.seen.map(({ rawHeaders }) => rawHeaders[rawHeaders.indexOf("content-type") + 1]),
    good,
  );
});

test("INV-18 a content type that is none, or several, is refused", async () => {
  for (const type of ["application/json, text/plain", "application/json,", "json", "application/json/x", "/"])
    assert.equal(await post(type), 400, type);
  assert.equal(crm.seen.length, 0);
});
