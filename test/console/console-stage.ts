/** The console as a browser sees it: a client with a jar of cookies that sends forms as pages of ours do. */
import assert from "node:assert/strict";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { stage, type Stage } from "../proxy/stage.ts";
import type { Cleanup } from "../support/database.ts";

/** A page, or whatever came in its place. */
export interface Seen {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The proof in its forms. */
  readonly csrf: string;
}

/** Headers of a form that one of our own pages sent. */
export const FROM_US = { "sec-fetch-site": "same-origin", origin: "null" };
export const FORM = "application/x-www-form-urlencoded";

/** One browser. */
export interface Browser {
  /** What is in its jar, by name. */
  readonly jar: Map<string, string>;
  /** Exactly this request, with the jar unless `headers.cookie` says otherwise. */
  send(method: string, path: string, o?: { headers?: Record<string, string | string[]>; body?: string }): Promise<Seen>;
  get(path: string, headers?: Record<string, string>): Promise<Seen>;
  /** A form of ours, with the proof of the page it is on unless `fields.csrf` says otherwise. */
  post(path: string, fields?: Record<string, string>, headers?: Record<string, string>): Promise<Seen>;
  signIn(key: string): Promise<Seen>;
}

/** A world with a resource that asks for approvals, and browsers. */
export interface ConsoleStage extends Stage {
  browser(url?: string): Browser;
}

export const GRANTS = `
  - { agent: release-bot, resource: crm, actions: [read] }
  - { agent: release-bot, resource: crm, actions: [write], name: release-writes, approval: { by: owner, within: 60m } }
  - { agent: lonely-bot, resource: crm, actions: [write], approval: { by: { agent: watch-bot } } }
  - { agent: triage-bot, resource: crm, actions: [write], on_behalf_of: { issuer: okta }, approval: { by: self, within: 60m } }`;

export async function consoleStage(t: Cleanup): Promise<ConsoleStage> {
  const s = await stage(t, {
    grants: GRANTS,
    edit: (trust) => trust.replace("identifies: humans,", "identifies: humans, client_id: console,"),
  });
  return { ...s, browser: (url = s.w.url) => browserAt(url) };
}

function browserAt(url: string): Browser {
  const jar = new Map<string, string>();
  let csrf = "";
  const send: Browser["send"] = async (method, path, { headers = {}, body } = {}) => {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const seen = await exchange(url, { method, path, body, headers: { ...(cookie !== "" && { cookie }), ...headers } });
    for (const line of seen.headers["set-cookie"] ?? []) {
      const [name = "", value = ""] = (line.split(";")[0] ?? "").split("=");
      if (/max-age=0/i.test(line)) jar.delete(name);
      else jar.set(name, value);
    }
    if (seen.csrf !== "") csrf = seen.csrf;
    return seen;
  };
  const made: Browser = {
    jar,
    send,
    get: (path, headers = {}) => send("GET", path, { headers: { "sec-fetch-site": "none", ...headers } }),
    post: (path, fields = {}, headers = {}) =>
      send("POST", path, {
        headers: { "content-type": FORM, ...FROM_US, ...headers },
        body: new URLSearchParams({ ...(csrf !== "" && { csrf }), ...fields }).toString(),
      }),
    async signIn(key) {
      const answer = await made.send("POST", "/console/sign-in", {
        headers: { "content-type": FORM, ...FROM_US },
        body: new URLSearchParams({ key }).toString(),
      });
      assert.equal(answer.status, 303, answer.text);
      return await made.get("/console");
    },
  };
  return made;
}

function exchange(
  url: string,
  o: { method: string; path: string; headers: Record<string, string | string[]>; body: string | undefined },
): Promise<Seen> {
  const { hostname, port } = new URL(url);
  const { method, path, headers, body } = o;
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
    const req = httpRequest(
      { hostname, port, method, path, agent: false, headers: { ...length, ...headers } },
      (res) => {
        const chunks: Buffer[] = [];
        res.on("data", (chunk: Buffer) => chunks.push(chunk));
        res.on("error", reject);
        res.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          const csrf = /name="csrf" value="([^"]*)"/.exec(text)?.[1] ?? "";
          resolve({ status: res.statusCode ?? 0, headers: res.headers, text, csrf });
        });
      },
    );
    req.on("error", reject);
    req.end(body);
  });
}
