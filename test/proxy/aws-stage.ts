/** A world with a role of AWS, services of AWS that believe signatures only, and an agent that calls them through the proxy. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as httpRequest, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import type { Cleanup } from "../support/database.ts";
import { fakeSts, type FakeSts } from "../support/fake-sts.ts";
import { SigV4Refusal, verifySigV4 } from "../support/sigv4.ts";
import { settled, usualTrust, world, type World } from "../support/world.ts";

export const ROLE = "arn:aws:iam::111122223333:role/ephor-orders";
export const REGION = "eu-west-1";
const ROOT = { id: "AKIAROOTKEYOFEPHOR01", secret: "root/Secret+Key/0123456789abcdef0" };
const BROKER = "arn:aws:iam::111122223333:user/ephor";

/** A request that a service of AWS let in. */
export interface Signed {
  readonly signer: string;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A service that recomputes each signature by the sessions of the STS, and answers 403 to what it does not believe. */
export interface AwsService {
  readonly url: string;
  readonly seen: Signed[];
  readonly refused: string[];
  /** What it answers; by default an empty object. */
  answer: (signed: Signed) => { status?: number; headers?: Record<string, string>; body: string };
}

export async function startAwsService(
  t: Cleanup,
  service: string,
  sts: FakeSts,
  nowMs: () => number,
): Promise<AwsService> {
  const fake: AwsService = { url: "", seen: [], refused: [], answer: () => ({ body: "{}" }) };
  const server = createServer(async (req, res) => {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    try {
      const keysOf = (id: string) => sts.sessions.get(id);
      const signer = verifySigV4(req, body, { nowMs: nowMs(), region: REGION, service, keysOf });
      const { method = "", url = "", headers } = req;
      const signed = { signer, method, url, headers, body: body.toString("utf8") };
      fake.seen.push(signed);
      const { status = 200, headers: more = {}, body: text } = fake.answer(signed);
      res.writeHead(status, { "content-type": "application/x-amz-json-1.0", ...more }).end(text);
    } catch (error) {
      if (!(error instanceof SigV4Refusal)) throw error;
      fake.refused.push(`${error.code} ${error.message}`);
      res.writeHead(403, { "content-type": "application/x-amz-json-1.0" }).end(`{"__type":"${error.code}"}`);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return Object.assign(fake, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

export interface Raw {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly json: Record<string, unknown>;
}

export interface AwsStage {
  readonly w: World;
  /** What was applied as `aws.yaml`. */
  readonly trust: string;
  readonly sts: FakeSts;
  readonly dynamo: AwsService;
  readonly s3: AwsService;
  /** A token of an agent for `http/NAME`; the same workload token continues its task. */
  token(resource: string, o?: { agent?: string; workload?: string }): Promise<string>;
  send(
    method: string,
    path: string,
    o: { token: string; headers?: Record<string, string>; body?: string | Buffer; url?: string },
  ): Promise<Raw>;
  /** A call of DynamoDB's, as its SDK writes it. */
  getItem(token: string, o?: { url?: string; table?: string }): Promise<Raw>;
}

export const TARGET = "DynamoDB_20120810.GetItem";

export async function awsStage(t: Cleanup, more = { resources: "", grants: "" }): Promise<AwsStage> {
  const w = await world(t, { trust: usualTrust, start: Math.floor(Date.now() / 1000) });
  const nowMs = (): number => w.clock.nowMs();
  const sts = await fakeSts(t, {
    keys: { [ROOT.id]: { secretAccessKey: ROOT.secret, arn: BROKER } },
    roles: { [ROLE]: { trust: { Statement: { Effect: "Allow", Principal: { AWS: BROKER }, Action: "sts:*" } } } },
    nowMs,
  });
  const [dynamo, s3] = await Promise.all([
    startAwsService(t, "dynamodb", sts, nowMs),
    startAwsService(t, "s3", sts, nowMs),
  ]);
  const secret = JSON.stringify({ access_key_id: ROOT.id, secret_access_key: ROOT.secret });
  const put = await w.operator("PUT", "/v1/secrets/aws-root", { value: secret });
  assert.equal(put.status, 200, put.text);
  const trust = `
resources:
  aws-prod:
    credential:
      aws:
        role_arn: ${ROLE}
        region: ${REGION}
        endpoint: ${sts.url}
        secret: aws-root
        session_policies: { readonly: { Statement: { Effect: Allow, Action: "dynamodb:Get*", Resource: "*" } } }
  aws-sts:
    http: ${sts.url}
    actions: { call: [POST /] }
    inject: { aws: aws-prod, service: sts, region: ${REGION} }
  orders:
    http: ${dynamo.url}
    actions: { call: [POST /], items: ["GET /items/**", "DELETE /items/**"] }
    inject: { aws: aws-prod, service: dynamodb, region: ${REGION}, policy: readonly }
    forward: [X-Amz-Extra]
  bucket:
    http: ${s3.url}
    actions: { read: ["GET /**"], write: ["PUT /**", "POST /**"] }
    inject: { aws: aws-prod, service: s3, region: ${REGION} }
${more.resources}
grants:
  - { agent: release-bot, resource: aws-sts, actions: [call] }
  - { agent: release-bot, resource: orders, actions: [call, items] }
  - { agent: release-bot, resource: bucket, actions: [read, write] }
  - agent: lonely-bot
    resource: orders
    actions: [call]
    when: call.operation == "${TARGET}" && args.TableName == "orders"
  - agent: lonely-bot
    resource: aws-sts
    actions: [call]
    when: args.Action == "GetCallerIdentity"
  - { agent: lonely-bot, resource: bucket, actions: [read], approval: { by: owner, within: 5m } }
${more.grants}
`;
  await w.apply(trust, "aws.yaml");
  const stage: AwsStage = {
    w,
    trust,
    sts,
    dynamo,
    s3,
    async token(resource, { agent = "release-bot", workload } = {}) {
      const form = {
        scope: resource,
        resource: `${w.server.issuer}/http/${resource}`,
        ...(workload !== undefined && { token: workload }),
      };
      const answer = await settled(() => w.self(agent, form));
      assert.equal(answer.status, 200, answer.text);
      return answer.body["access_token"] as string;
    },
    send: (method, path, { token, headers = {}, body, url = w.url }) =>
      new Promise((resolve, reject) => {
        const { hostname, port } = new URL(url);
        const length = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
        const all = { authorization: `Bearer ${token}`, ...length, ...headers };
        const req = httpRequest({ hostname, port, method, path, agent: false, headers: all });
        req.on("error", reject);
        req.on("response", (res) => {
          const chunks: Buffer[] = [];
          res.on("data", (chunk: Buffer) => chunks.push(chunk));
          res.on("error", reject);
          res.on("end", () => {
            const text = Buffer.concat(chunks).toString("utf8");
            let json: Record<string, unknown> = {};
            try {
              json = JSON.parse(text) as Record<string, unknown>;
            } catch {
              // Not every answer is JSON.
            }
            resolve({ status: res.statusCode ?? 0, headers: res.headers, text, json });
          });
        });
        req.end(body);
      }),
    getItem: (token, { url, table = "orders" } = {}) =>
      stage.send("POST", "/http/orders/", {
        token,
        headers: { "content-type": "application/x-amz-json-1.0", "x-amz-target": TARGET },
        body: JSON.stringify({ TableName: table, Key: { id: { S: "1" } } }),
        ...(url !== undefined && { url }),
      }),
  };
  return stage;
}

/** The calls of the STS that took up a role. */
export function sessionsOf(sts: FakeSts): FakeSts["calls"] {
  return sts.calls.filter(({ action }) => action === "AssumeRole");
}

/** What an event tells beside who and when. */
export function factsOf(event: Record<string, unknown> | undefined): Record<string, unknown> {
  assert.ok(event);
  return event["body"] as Record<string, unknown>;
}
