import assert from "node:assert/strict";
import { Readable } from "node:stream";
import type { IncomingMessage } from "node:http";
import { test } from "node:test";
import { CALL_LIMITS } from "../../src/core/trust/call-limits.ts";
import { InvalidRequestError } from "../../src/core/oauth/errors.ts";
import { awsSignature, readAwsBody } from "../../src/proxy/aws-call.ts";
import type { ProxiedRequest } from "../../src/proxy/exchange.ts";
import type { HttpUpstream } from "../../src/proxy/upstream.ts";
import { verifySigV4 } from "../support/sigv4.ts";

const KEYS = { access_key_id: "ASIA0000000000000001", secret_access_key: "s/e+c", session_token: "t/o+k=" };
const credential = {
  lease: "lease_1",
  kill: { keys: [], epochs: [] },
  use: <T>(fn: (keys: typeof KEYS) => T): T => fn(KEYS),
  refused() {},
  forget() {},
};
const NOW = Date.UTC(2026, 10, 23, 3);
const never = (): undefined => undefined;
const bounds = {
  flowBytes: CALL_LIMITS.flowBytes,
  readBytes: CALL_LIMITS.readBytes,
  over: { flow: never, read: never },
};

/** Over https nothing here has a certificate: what would be sent is judged without a wire. */
const upstream = {
  origin: "https://my-bucket.s3.eu-west-1.amazonaws.com",
  basePath: "",
  aws: { service: "s3", region: "eu-west-1" },
} as HttpUpstream;
const request = (length: number | undefined, body = "x"): ProxiedRequest =>
  ({ headers: [], length, flow: () => Readable.from([body]), read: never }) as unknown as ProxiedRequest;

test("an object flows to S3 over https, signed as UNSIGNED-PAYLOAD, and only with a length", async () => {
  const { body, json } = await readAwsBody(request(1), "application/json", { upstream, bounds });
  assert.ok(body !== undefined && typeof body === "object" && Symbol.asyncIterator in body);
  assert.deepEqual(json, {});
  await assert.rejects(readAwsBody(request(undefined), "text/plain", { upstream, bounds }), InvalidRequestError);
  const headers = { "content-type": "application/json", "x-amz-acl": "private", range: "bytes=0-1" };
  const { aws = { service: "", region: "" }, origin } = upstream;
  const at = { scope: aws, origin, method: "PUT", path: "/a%20b", parameters: { acl: "" }, headers, body };
  const signed = await awsSignature(credential, at, NOW);
  assert.equal(signed["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
  assert.deepEqual([signed["host"], signed["range"]], [undefined, undefined]);
  const sent = { method: "PUT", url: "/a%20b?acl=", headers: { ...headers, ...signed, host: new URL(origin).host } };
  const verify = (over: object = {}): string =>
    verifySigV4({ ...sent, ...over } as unknown as IncomingMessage, Buffer.from("whatever flows"), {
      nowMs: NOW,
      ...aws,
      keysOf: () => ({ secretAccessKey: KEYS.secret_access_key, sessionToken: KEYS.session_token }),
    });
  assert.equal(verify(), KEYS.access_key_id);
  // What was signed cannot be another call.
  for (const over of [
    { method: "DELETE" },
    { url: "/a%20c?acl=" },
    { url: "/a%20b?acl=&policy=" },
    { headers: { ...sent.headers, "x-amz-acl": "public-read" } },
    { headers: { ...sent.headers, host: "other-bucket.s3.eu-west-1.amazonaws.com" } },
  ])
    assert.throws(() => verify(over), JSON.stringify(over));
});

test("a body that is whole is hashed: another one is not what was signed", async () => {
  const scope = { service: "dynamodb", region: "eu-west-1" };
  const origin = "https://dynamodb.eu-west-1.amazonaws.com";
  const call = { scope, origin, method: "POST", path: "/", parameters: {}, headers: {}, body: '{"é":1}' };
  const signed = await awsSignature(credential, call, NOW);
  const sent = { method: "POST", url: "/", headers: { ...signed, host: new URL(origin).host } };
  const verify = (body: string): string =>
    verifySigV4(sent as unknown as IncomingMessage, Buffer.from(body), {
      nowMs: NOW,
      ...scope,
      keysOf: () => ({ secretAccessKey: KEYS.secret_access_key, sessionToken: KEYS.session_token }),
    });
  assert.equal(verify('{"é":1}'), KEYS.access_key_id);
  assert.throws(() => verify('{"é":2}'));
});
