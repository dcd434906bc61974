/** A world whose people have accounts at an upstream: by HTTP and by MCP, each with their own access token. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import type { Cleanup } from "../support/database.ts";
import { startFakeAuthorizationServer, type FakeAuthorizationServer } from "../support/fake-authorization-server.ts";
import { ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE, usualTrust, world, type World } from "../support/world.ts";
import { startCrm, type Crm, type Raw } from "./stage.ts";
import { request as httpRequest } from "node:http";

/** What its MCP server says of itself. */
const RESULTS: Readonly<Record<string, unknown>> = {
  initialize: {
    protocolVersion: "2025-11-25",
    capabilities: { tools: {} },
    serverInfo: { name: "notion", version: "1" },
  },
  "tools/list": { tools: [{ name: "search", description: "Searches.", inputSchema: { type: "object" } }] },
};

export interface OAuthStage {
  readonly w: World;
  /** What was applied as `notion.yaml`. */
  readonly trust: string;
  readonly idp: FakeAuthorizationServer;
  /** The upstream; lets in whoever has a live token, and answers whose it is. */
  readonly pages: Crm;
  /** Whose each access token is. */
  readonly owners: ReadonlyMap<string, string>;
  /** The name of a person's secret. */
  readonly secretOf: (sub: string) => string;
  /** A person consents; another value than before. @param account what it is called at the upstream */
  connect(sub: string, account?: string): Promise<void>;
  /** A token of `triage-bot` for a person (by a human's token, which continues its task), or for itself. */
  token(o: { human?: string; resource?: string; agent?: string }): Promise<string>;
  read(token: string, o?: { url?: string; method?: string }): Promise<Raw & { json: Record<string, unknown> }>;
  tool(token: string, o?: { url?: string }): Promise<Raw & { json: Record<string, unknown> }>;
}

export async function oauthStage(t: Cleanup, o: { revokes?: boolean } = {}): Promise<OAuthStage> {
  const accounts = new Map<string, string>();
  const owners = new Map<string, string>();
  const idp = await startFakeAuthorizationServer(() => true);
  t.after(() => idp.stop());
  idp.meddle = (request, reply) => {
    const { access_token: access, refresh_token: next } = (reply.body ?? {}) as Record<string, string>;
    const account = accounts.get(new URLSearchParams(request.body).get("refresh_token") ?? "");
    if (reply.status === 200 && access !== undefined && account !== undefined) {
      owners.set(access, account);
      accounts.set(next ?? "", account);
    }
    return undefined;
  };
  const pages = await startCrm(t);
  pages.answer = (req, res, body) => {
    const token = /^Bearer (.+)$/.exec(req.headers.authorization ?? "")?.[1] ?? "";
    const status = idp.live.has(token) ? 200 : 401;
    const said = { account: owners.get(token) ?? null };
    const message = req.url === "/mcp" && body !== "" ? (JSON.parse(body) as { id?: unknown; method?: string }) : {};
    const { id, method = "" } = message;
    const result = RESULTS[method] ?? { content: [{ type: "text", text: JSON.stringify(said) }] };
    const answer = req.url === "/mcp" ? { jsonrpc: "2.0", id, result } : said;
    if (method.startsWith("notifications/")) return void res.writeHead(202).end();
    res.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
  };
  const w = await world(t, { trust: usualTrust, start: Math.floor(Date.now() / 1000) });
  const trust = `
resources:
  notion:
    credential:
      oauth: { token_url: "${idp.tokenUrl}", ${o.revokes === false ? "" : `revocation_url: "${idp.revocationUrl}", `}internal: true, client_id: ephor, secret: notion-client, grant: refresh_token, refresh_secret: "notion-{user}", scope: "read write", session_policies: { read: { scope: read } } }
  notion-api:
    http: ${pages.url}/v1
    actions: { read: ["GET /pages/**"], write: ["POST /pages"] }
    inject: { oauth: notion }
  notion-mcp:
    mcp: ${pages.url}/mcp
    inject: { oauth: notion, policy: read }
grants:
  - { agent: triage-bot, resource: notion-api, actions: [read, write], on_behalf_of: { issuer: okta } }
  - { agent: triage-bot, resource: notion-mcp, actions: [search], on_behalf_of: { issuer: okta } }
  - { agent: release-bot, resource: notion-api, actions: [read] }
  - { agent: release-bot, resource: notion-mcp, actions: [search] }
`;
  await w.apply(trust, "notion.yaml");
  await w.operator("PUT", "/v1/secrets/notion-client", { value: "client-secret" });
  const secretOf = (sub: string): string => `notion-${createHash("sha256").update(sub).digest("hex").slice(0, 32)}`;

  const send = (method: string, path: string, at: { token: string; url?: string | undefined; body?: string }) =>
    new Promise<Raw & { json: Record<string, unknown> }>((resolve, reject) => {
      const { hostname, port } = new URL(at.url ?? w.url);
      const headers = {
        authorization: `Bearer ${at.token}`,
        accept: "application/json, text/event-stream",
        ...(at.body !== undefined && {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(at.body),
        }),
      };
      const req = httpRequest({ hostname, port, method, path, agent: false, headers });
      req.on("error", reject);
      req.on("response", (res) => {
        const chunks: Buffer[] = [];
        res.on("data", (chunk: Buffer) => chunks.push(chunk));
        res.on("error", reject);
        res.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          const json = text.startsWith("{") ? (JSON.parse(text) as Record<string, unknown>) : {};
          resolve({ status: res.statusCode ?? 0, headers: res.headers, text, whole: res.complete, json });
        });
      });
      req.end(at.body);
    });

  return {
    w,
    trust,
    idp,
    pages,
    owners,
    secretOf,
    async connect(sub, account = sub) {
      const refresh = `refresh-${randomBytes(12).toString("hex")}`;
      idp.refreshTokens.add(refresh);
      accounts.set(refresh, account);
      const put = await w.operator("PUT", `/v1/secrets/${secretOf(sub)}`, { value: refresh });
      assert.equal(put.status, 200, put.text);
    },
    async token({ human, resource = "http/notion-api", agent = human === undefined ? "release-bot" : "triage-bot" }) {
      const workload = w.workload(agent);
      const answer = await w.post("/token", {
        grant_type: TOKEN_EXCHANGE,
        subject_token: human ?? workload,
        subject_token_type: human === undefined ? JWT_TYPE : ID_TOKEN_TYPE,
        ...(human !== undefined && { actor_token: workload, actor_token_type: JWT_TYPE }),
        resource: `${w.server.issuer}/${resource}`,
        scope: resource.replace(/^.*\//, ""),
      });
      assert.equal(answer.status, 200, answer.text);
      return answer.body["access_token"] as string;
    },
    read: (token, { url, method = "GET" } = {}) =>
      send(method, method === "GET" ? "/http/notion-api/pages/1" : "/http/notion-api/pages", {
        token,
        url,
        ...(method !== "GET" && { body: "{}" }),
      }),
    tool: (token, { url } = {}) =>
      send("POST", "/mcp/notion-mcp", {
        token,
        url,
        body: JSON.stringify({
          jsonrpc: "2.0",
          id: 1,
          method: "tools/call",
          params: { name: "search", arguments: {} },
        }),
      }),
  };
}
