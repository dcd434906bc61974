import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { eventsOf } from "./stage.ts";
import { awsStage, REGION, ROLE, sessionsOf, TARGET, factsOf } from "./aws-stage.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const s = await awsStage({ after });
const { w, sts, dynamo, s3 } = s;
beforeEach(() => {
  // Another task for each test, and none of its sessions.
  w.clock.advance(1);
  dynamo.seen.length = 0;
  dynamo.refused.length = 0;
  s3.seen.length = 0;
  dynamo.answer = () => ({ body: "{}" });
});
const lastReason = async (): Promise<unknown> => (await eventsOf(w, "call.forward"))[0]?.["reason"];

test("INV-16, INV-17 a call is signed by a session of the role that names agent, task and lease, and the agent's token goes nowhere", async () => {
  const token = await s.token("orders");
  const answer = await s.getItem(token);
  assert.equal(answer.status, 200, answer.text);
  const [signed, ...more] = dynamo.seen;
  assert.ok(signed && more.length === 0);
  assert.deepEqual(dynamo.refused, []);
  assert.equal(signed.headers["x-amz-target"], TARGET);
  assert.ok(signed.headers.authorization?.startsWith("AWS4-HMAC-SHA256 "));
  assert.ok(!JSON.stringify(signed).includes(token));
  const session = sts.sessions.get(signed.signer);
  const call = (await eventsOf(w, "call.forward"))[0];
  const [vend] = await eventsOf(w, "credential.vend");
  const lease = factsOf(call)["lease"];
  assert.equal(session?.arn, `arn:aws:sts::111122223333:assumed-role/ephor-orders/${String(lease)}`);
  assert.equal(session?.sourceIdentity, "release-bot");
  assert.equal(session?.tags["ephor:txn"], call?.["txn"]);
  assert.equal(session?.tags["ephor:agent"], "release-bot");
  assert.deepEqual([factsOf(vend)["into"], vend?.["resource"]], ["orders", "aws-prod"]);
  for (const seen of [signed.signer, String(lease), session?.arn ?? ""]) {
    const who = await w.operator("GET", `/v1/who/${encodeURIComponent(seen)}`);
    assert.equal((who.body["matches"] as { txn: string }[])[0]?.txn, call?.["txn"], seen);
  }
  const shown = answer.text + JSON.stringify(answer.headers) + w.lines.join("\n") + JSON.stringify(await w.events());
  for (const hidden of [session?.secretAccessKey ?? "", session?.sessionToken ?? ""])
    assert.ok(hidden.length > 10 && !shown.includes(hidden));
});

test("a session policy that the resource names narrows what its calls may do; without one the role alone does", async () => {
  await s.getItem(await s.token("orders"));
  const at = w.now();
  const narrow = dynamo.seen[0]?.signer ?? "";
  assert.equal(sts.allows(narrow, { action: "dynamodb:GetItem", resource: "*", at }), true);
  assert.equal(sts.allows(narrow, { action: "dynamodb:DeleteItem", resource: "*", at }), false);
  assert.equal((await s.send("GET", "/http/bucket/key", { token: await s.token("bucket") })).status, 200);
  const wide = s3.seen[0]?.signer ?? "";
  assert.equal(sts.allows(wide, { action: "s3:GetObject", resource: "*", at }), true);
  // AWS itself ends it within the minute, though its session lives for fifteen.
  assert.equal(sts.allows(wide, { action: "s3:GetObject", resource: "*", at: at + 60 }), false);
});

test("one place in one task has one session at a time, and nobody shares it", async () => {
  const before = sessionsOf(sts).length;
  const workload = w.workload("release-bot");
  const tokens = await Promise.all([0, 1, 2].map(() => s.token("orders", { workload })));
  const answers = await Promise.all([...tokens, ...tokens].map((token) => s.getItem(token)));
  assert.deepEqual(
    answers.map(({ status }) => status),
    Array.from({ length: 6 }, () => 200),
  );
  assert.equal(new Set(dynamo.seen.map(({ signer }) => signer)).size, 1);
  assert.equal(sessionsOf(sts).length, before + 1);
  // Another task of the same agent, and another agent.
  await s.getItem(await s.token("orders", { workload: w.workload("release-bot") }));
  await s.getItem(await s.token("orders", { agent: "lonely-bot" }));
  // Another resource of the same task.
  await s.send("GET", "/http/bucket/key", { token: await s.token("bucket", { workload }) });
  const signers = [...dynamo.seen, ...s3.seen].map(({ signer }) => signer);
  assert.equal(new Set(signers).size, 4);
  assert.equal(sessionsOf(sts).length, before + 4);
});

test("a session that is about to end is replaced, and each call is decided on by itself meanwhile", async () => {
  const workload = w.workload("release-bot");
  const call = async (): Promise<string> => {
    assert.equal((await s.getItem(await s.token("orders", { workload }))).status, 200);
    return dynamo.seen.at(-1)?.signer ?? "";
  };
  const first = await call();
  w.clock.advance(40);
  assert.equal(await call(), first);
  w.clock.advance(12);
  assert.notEqual(await call(), first);
  assert.deepEqual(dynamo.refused, []);
});

test("A-PRX-02 what a caller's own signature would add is dropped; other headers of AWS pass only where they are named", async () => {
  const token = await s.token("orders");
  const answer = await s.send("POST", "/http/orders/", {
    token,
    headers: {
      "content-type": "application/x-amz-json-1.0",
      "x-amz-target": TARGET,
      "x-amz-date": "20200101T000000Z",
      "x-amz-security-token": "theirs",
      "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
      "X-Amz-User-Agent": "aws-sdk-js/3",
      "x-amz-extra": "kept",
      "amz-sdk-invocation-id": "kept",
      cookie: "a=b",
    },
    body: '{ "TableName" :  "orders" }',
  });
  assert.equal(answer.status, 200, answer.text);
  const { headers, body } = dynamo.seen[0] ?? {};
  // Written anew, and that is what was signed.
  assert.equal(body, '{"TableName":"orders"}');
  assert.deepEqual([headers?.["x-amz-extra"], headers?.["amz-sdk-invocation-id"]], ["kept", "kept"]);
  assert.notEqual(headers?.["x-amz-security-token"], "theirs");
  assert.notEqual(headers?.["x-amz-date"], "20200101T000000Z");
  assert.deepEqual([headers?.["x-amz-user-agent"], headers?.cookie], [undefined, undefined]);
  for (const name of ["x-amz-acl", "X_Amz_Acl", "x-amz-copy-source"]) {
    const refused = await s.send("GET", "/http/bucket/key", {
      token: await s.token("bucket"),
      headers: { [name]: "public-read" },
    });
    assert.equal(refused.status, 400, name);
    assert.match(refused.text, /forward/);
    assert.equal(await lastReason(), "malformed_request");
  }
  assert.equal(s3.seen.length, 0);
});

test("A-PRX-01 a presigned URL or a signed form is refused, whatever its spelling", async () => {
  const token = await s.token("bucket");
  for (const query of [
    "X-Amz-Signature=00",
    "x-amz-signature=00",
    "X-Amz-Credential=AKIA%2F1",
    "X-Amz-Security-Token=t",
    "X-Amz-Date=20200101T000000Z",
    "X-Amz-Expires=60",
    "X%2DAmz-Algorithm=AWS4-HMAC-SHA256",
    "AWSAccessKeyId=AKIA",
  ]) {
    const refused = await s.send("GET", `/http/bucket/key?${query}`, { token });
    assert.equal(refused.status, 400, query);
    assert.equal(await lastReason(), "malformed_request");
  }
  const form = await s.send("POST", "/http/aws-sts/", {
    token: await s.token("aws-sts"),
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Signature=00",
  });
  assert.equal(form.status, 400);
  const upload = await s.send("POST", "/http/bucket/", {
    token,
    headers: { "content-type": "multipart/form-data; boundary=x" },
    body: "--x--",
  });
  assert.equal(upload.status, 400);
  // The nearest that passes.
  assert.equal((await s.send("GET", "/http/bucket/key?x-id=GetObject&acl", { token })).status, 200);
  assert.equal(s3.seen.length, 1);
});

test("A-PRX-06 what is signed is what is sent, however path and query are spelled", async () => {
  const token = await s.token("orders");
  for (const [path, url] of [
    ["/items/a%20b(c)'!*+:@/x=y", "/items/a%20b%28c%29%27%21%2A%2B%3A%40/x%3Dy"],
    ["/items/%C3%A9?q=a+b&q=a%20c&z&a=%2F%26", "/items/%C3%A9?q=a%20b&q=a%20c&z=&a=%2F%26"],
    ["/items/?b=2&a=1&A=0", "/items/?b=2&a=1&A=0"],
    ["/items?", "/items"],
  ] as const) {
    const answer = await s.send("GET", `/http/orders${path}`, { token });
    assert.equal(answer.status, 200, `${path} ${dynamo.refused.join()}`);
    assert.equal(dynamo.seen.at(-1)?.url, url);
  }
  const bucket = await s.token("bucket");
  assert.equal(
    (await s.send("GET", "/http/bucket/a%20b(c)+%C3%A9/d?list-type=2&prefix=a/b", { token: bucket })).status,
    200,
  );
  assert.equal(s3.seen.at(-1)?.url, "/a%20b%28c%29%2B%C3%A9/d?list-type=2&prefix=a%2Fb");
  assert.equal((await s.send("DELETE", "/http/orders/items/7", { token })).status, 200);
  assert.equal((await s.send("HEAD", "/http/orders/items/7", { token })).status, 200);
});

test("any body is hashed as it is sent: an object byte for byte, also one that is JSON", async () => {
  const token = await s.token("bucket");
  const object = '{ "a": 1,  "a": 2 }';
  const put = await s.send("PUT", "/http/bucket/report.json", {
    token,
    headers: { "content-type": "application/json" },
    body: object,
  });
  assert.equal(put.status, 200, put.text);
  assert.equal(s3.seen[0]?.body, object);
  const big = Buffer.alloc(1024 * 1024 + 1, "x");
  const tooBig = await s.send("PUT", "/http/bucket/big", {
    token,
    headers: { "content-type": "application/octet-stream" },
    body: big,
  });
  assert.equal(tooBig.status, 413);
  const fits = await s.send("PUT", "/http/bucket/big", {
    token,
    headers: { "content-type": "application/octet-stream" },
    body: big.subarray(1),
  });
  assert.equal(fits.status, 200, fits.text);
  // Elsewhere JSON is read strictly, under AWS's own types too.
  const twice = await s.send("POST", "/http/orders/", {
    token: await s.token("orders"),
    headers: { "content-type": "application/x-amz-json-1.1", "x-amz-target": TARGET },
    body: object,
  });
  assert.equal(twice.status, 400);
});

test("conditions see the operation and its arguments, and no call names its operation in two ways", async () => {
  const orders = await s.token("orders", { agent: "lonely-bot" });
  assert.equal((await s.getItem(orders)).status, 200);
  assert.equal((await s.getItem(orders, { table: "salaries" })).status, 403);
  assert.equal(await lastReason(), "condition_false");
  const send = (headers: Record<string, string>, body: string, path = "/http/orders/", token = orders) =>
    s.send("POST", path, { token, headers, body });
  const json = { "content-type": "application/x-amz-json-1.0" };
  const item = '{"TableName":"orders"}';
  assert.equal((await send({ ...json, "x-amz-target": "DynamoDB_20120810.DeleteItem" }, item)).status, 403);
  // Without the header there is nothing to judge, and that denies.
  assert.equal((await send(json, item)).status, 403);
  const form = { "content-type": "application/x-www-form-urlencoded" };
  for (const [headers, body, path] of [
    [{ ...form, "x-amz-target": TARGET }, "Action=DeleteItem&TableName=orders", "/http/orders/"],
    [{ ...json, "x-amz-target": TARGET }, item, "/http/orders/?Action=DeleteItem"],
    [{ ...json, "x-amz-target": TARGET, "smithy-protocol": "rpc-v2-cbor" }, item, "/http/orders/"],
    [{ ...json, "x-amz-target": TARGET }, item, "/http/orders/?TableName=salaries"],
    [{ ...json, "x-amz-target": "Get Item" }, item, "/http/orders/"],
  ] as const) {
    assert.equal((await send(headers, body, path)).status, 400, JSON.stringify([headers, path]));
    assert.equal(await lastReason(), "malformed_request");
  }
  const caller = await s.token("aws-sts", { agent: "lonely-bot" });
  const ask = (body: string) => send(form, body, "/http/aws-sts/", caller);
  assert.equal((await ask("Action=GetCallerIdentity&Version=2011-06-15")).status, 200);
  assert.equal((await ask("Action=GetSessionToken&Version=2011-06-15")).status, 403);
  assert.equal((await ask("Action=GetSessionToken&Action=GetCallerIdentity&Version=2011-06-15")).status, 400);
  assert.equal(dynamo.seen.length, 1);
});

test("A-PRX-09 what a service echoes of the session's secret and token is masked", async () => {
  dynamo.answer = ({ signer, headers }) => {
    const session = sts.sessions.get(signer);
    const echo = { key: session?.secretAccessKey, token: headers["x-amz-security-token"], id: signer };
    return { headers: { "x-echo": String(headers["x-amz-security-token"]) }, body: JSON.stringify(echo) };
  };
  const answer = await s.getItem(await s.token("orders"));
  const { signer = "" } = dynamo.seen[0] ?? {};
  assert.deepEqual([answer.json["id"], answer.headers["x-echo"]], [signer, undefined]);
  assert.match(String(answer.json["key"]), /^\*+$/);
  assert.match(String(answer.json["token"]), /^\*+$/);
});

test("A-PRX-03 a connection-named header is dropped before the signature is made", async () => {
  const answer = await s.send("POST", "/http/orders/", {
    token: await s.token("orders"),
    headers: {
      connection: "x-amz-target, authorization, x-amz-security-token",
      "content-type": "application/x-amz-json-1.0",
      "x-amz-target": TARGET,
    },
    body: "{}",
  });
  assert.equal(answer.status, 200, answer.text);
  assert.equal(dynamo.seen[0]?.headers["x-amz-target"], undefined);
  assert.ok(dynamo.seen[0]?.headers.authorization?.startsWith("AWS4-HMAC-SHA256 "));
});

test("an STS that refuses is 403 with a decision that says so, one that is away is 503, and nothing is sent", async () => {
  const token = await s.token("orders");
  sts.next({ code: "AccessDenied", status: 403 });
  const refused = await s.getItem(token);
  assert.equal(refused.status, 403, refused.text);
  const [event] = await eventsOf(w, "call.forward");
  assert.deepEqual([event?.["reason"], event?.["id"]], ["upstream_refused", refused.json["decision"]]);
  sts.next({ code: "ServiceUnavailable", status: 503 }, { code: "ServiceUnavailable", status: 503 });
  sts.next({ code: "ServiceUnavailable", status: 503 });
  const away = await s.getItem(token);
  assert.equal(away.status, 503, away.text);
  sts.forget();
  assert.equal(dynamo.seen.length, 0);
  assert.equal((await s.getItem(token)).status, 200);
});

test("a call that is not granted has no session made for it", async () => {
  const before = sessionsOf(sts).length;
  const token = await s.token("orders", { agent: "lonely-bot" });
  assert.equal((await s.getItem(token, { table: "salaries" })).status, 403);
  assert.equal(sessionsOf(sts).length, before);
  assert.equal((await s.getItem(token)).status, 200);
  assert.equal(sessionsOf(sts).length, before + 1);
});

test("a call that waits for an approval has no session made for it; what was approved is void when the role's entry changes", async () => {
  const workload = w.workload("lonely-bot");
  const read = async (key: string) =>
    await s.send("GET", `/http/bucket/${key}`, { token: await s.token("bucket", { agent: "lonely-bot", workload }) });
  const approve = async (key: string): Promise<void> => {
    const waits = await read(key);
    assert.deepEqual([waits.status, waits.json["code"]], [403, "approval_required"]);
    const { id } = waits.json["approval"] as { id: string };
    const decided = await w.operator("POST", `/v1/approvals/${id}`, { decision: "approve", reason: "looked at it" });
    assert.equal(decided.status, 200, decided.text);
  };
  const before = sessionsOf(sts).length;
  await approve("a");
  await approve("b");
  assert.equal(sessionsOf(sts).length, before);
  assert.equal((await read("a")).status, 200);
  assert.equal((await read("a")).json["code"], "approval_required");
  assert.equal(sessionsOf(sts).length, before + 1);
  await w.apply(s.trust.replace("secret: aws-root", "secret: aws-root\n        tags: { team: platform }"), "aws.yaml");
  assert.equal((await read("b")).json["code"], "approval_required");
  await w.apply(s.trust, "aws.yaml");
  assert.equal(s3.seen.length, 1);
});

test("the role in these tests is the one that was applied", () => {
  assert.ok([...sts.sessions.values()].every(({ roleArn }) => roleArn === ROLE));
  assert.equal(sts.region, REGION);
});
