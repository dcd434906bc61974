/** A world with an HTTP API behind the proxy, and a client that sends exactly what a test says. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Cleanup } from "../support/database.ts";
import { settled, usualTrust, world, type World } from "../support/world.ts";

/** Within which a cut must be seen; a cut takes milliseconds, and 2 s at the most (A-KILL-05). */
const SOON_MS = 5_000;

/** The upstream's key, which no agent may ever see. */
export const CRM_KEY = "crm-key-value-7f3a9c2e1b";

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

/** An upstream whose answers a test writes by itself. */
export interface Crm {
  readonly url: string;
  readonly seen: Seen[];
  /** Requests whose caller went away before the answer was whole. */
  readonly gone: string[];
  answer: (req: IncomingMessage, res: ServerResponse, body: string) => void;
}

export interface Raw {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
  /** Whether the answer ended as it should. */
  readonly whole: boolean;
}

export interface Stage {
  readonly w: World;
  readonly crm: Crm;
  /** A token of `release-bot` for the resource, or of another agent. */
  token(scope?: string, o?: { agent?: string; resource?: string; form?: Record<string, string> }): Promise<string>;
  /** Sends as it is written: no normalising, no header added but Host and the length. */
  send(
    method: string,
    path: string,
    o?: { token?: string; headers?: Record<string, string | string[]>; body?: string | Buffer; url?: string },
  ): Promise<Raw>;
}

export const plain: Crm["answer"] = (_req, res) => {
  res.writeHead(200, { "content-type": "application/json" });
  res.end('{"ok":true}');
};

export async function startCrm(t: Cleanup): Promise<Crm> {
  const crm: Crm = { url: "", seen: [], gone: [], answer: plain };
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    res.on("close", () => res.writableFinished || crm.gone.push(req.url ?? ""));
    req.on("error", () => {});
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("end", () => {
      const body = Buffer.concat(chunks).toString("utf8");
      crm.seen.push({ method: req.method ?? "", url: req.url ?? "", rawHeaders: req.rawHeaders, body });
      crm.answer(req, res, body);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return Object.assign(crm, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

export async function stage(
  t: Cleanup,
  o: { grants?: string; resource?: string; edit?: (trust: string) => string; start?: number } = {},
): Promise<Stage> {
  const crm = await startCrm(t);
  const w = await world(t, {
    ...(o.start !== undefined && { start: o.start }),
    trust: (issuers) =>
      (o.edit ?? ((trust) => trust))(usualTrust(issuers)).replace(
        "grants:",
        `  crm:
    http: ${crm.url}/api
    actions:
      read: ["GET /contacts/**"]
      write: ["POST /contacts", "PATCH /contacts/*"]
      remove: ["DELETE /contacts/*"]
    inject: { header: X-Api-Key, value: "{secret:crm-key}" }
    forward: [X-Page]
${o.resource ?? ""}
grants:
${o.grants ?? "  - { agent: release-bot, resource: crm, actions: [read, write] }\n  - { agent: lonely-bot, resource: crm, actions: [read] }"}`,
      ),
  });
  const put = await w.operator("PUT", "/v1/secrets/crm-key", { value: CRM_KEY });
  assert.ok(put.status < 300, put.text);
  return {
    w,
    crm,
    async token(scope = "crm:read", { agent = "release-bot", resource = "http/crm", form = {} } = {}) {
      const answer = await settled(() => w.self(agent, { scope, resource: `${w.server.issuer}/${resource}`, ...form }));
      assert.equal(answer.status, 200, answer.text);
      return answer.body["access_token"] as string;
    },
    send: (method, path, { token, headers = {}, body, url = w.url } = {}) =>
      new Promise((resolve, reject) => {
        const { hostname, port } = new URL(url);
        const req = httpRequest({
          hostname,
          port,
          method,
          path,
          agent: false,
          headers: {
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
            ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
            ...headers,
          },
        });
        req.on("error", reject);
        req.on("response", (res) => {
          const chunks: Buffer[] = [];
          res.on("data", (chunk: Buffer) => chunks.push(chunk));
          const done = (whole: boolean): void =>
            resolve({
              status: res.statusCode ?? 0,
              headers: res.headers,
              text: Buffer.concat(chunks).toString("utf8"),
              whole,
            });
          res.on("end", () => done(res.complete));
          res.on("error", () => done(false));
        });
        req.end(body);
      }),
  };
}

/** The events of a type, newest first. */
export async function eventsOf(w: World, type: string): Promise<Record<string, unknown>[]> {
  return (await w.events()).filter((event) => event["type"] === type);
}

/** Waits until something is so, within a bound that no machine needs. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not in time: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** What should come at once and never comes is a failure within seconds, not a test run that hangs. */
export async function soon<T>(what: Promise<T>, label: string): Promise<T> {
  let late: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_resolve, reject) => {
    late = setTimeout(() => reject(new assert.AssertionError({ message: `not in time: ${label}` })), SOON_MS);
  });
  try {
    return await Promise.race([what, tooLate]);
  } finally {
    clearTimeout(late);
  }
}

/** Whether a body that flows is cut, and not ended or left open. @param next the read that hangs while nothing comes */
export async function isCut(next: Promise<unknown>): Promise<void> {
  const end = next.then(
    () => "it went on",
    (error: unknown) => (error instanceof assert.AssertionError ? error.message : "cut"),
  );
  assert.equal(await soon(end, "the cut"), "cut");
}
