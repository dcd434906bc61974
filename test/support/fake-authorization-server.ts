import { randomBytes } from "node:crypto";
import { startUpstream, type SeenRequest, type UpstreamReply, type UpstreamServer } from "./upstream-server.ts";

/** An authorization server that knows one confidential client, rotates refresh tokens and revokes what it is told to. */
export interface FakeAuthorizationServer extends UpstreamServer {
  readonly tokenUrl: string;
  readonly revocationUrl: string;
  /** Access tokens that are good now, with their scope. */
  readonly live: ReadonlyMap<string, string>;
  /** Refresh tokens that are good now. Using one twice ends them all (RFC 9700 §4.14.2). */
  readonly refreshTokens: Set<string>;
  /** The form of the last request to `path`. */
  lastForm(path?: string): URLSearchParams;
  /** Changes the next answers; undefined as result leaves it as it is. */
  meddle: ((request: SeenRequest, reply: UpstreamReply) => UpstreamReply | undefined) | undefined;
}

/** @param authenticate whether the request proves the client; the rest of it is read for every client */
export async function startFakeAuthorizationServer(
  authenticate: (request: SeenRequest, form: URLSearchParams) => boolean | Promise<boolean>,
): Promise<FakeAuthorizationServer> {
  const live = new Map<string, string>();
  const refreshTokens = new Set<string>();
  const spent = new Set<string>();
  const fake = { live, refreshTokens, meddle: undefined as FakeAuthorizationServer["meddle"] };
  const refuse = (error: string, status = 400): UpstreamReply => ({
    status,
    body: { error, error_description: "canary-upstream-text" },
  });

  function issue(form: URLSearchParams, more: object = {}): UpstreamReply {
    const token = randomBytes(24).toString("base64url");
    live.set(token, form.get("scope") ?? "");
    return { status: 200, body: { access_token: token, token_type: "Bearer", expires_in: 3600, ...more } };
  }

  function refresh(form: URLSearchParams): UpstreamReply {
    const token = form.get("refresh_token") ?? "";
    if (spent.has(token)) refreshTokens.clear();
    if (!refreshTokens.delete(token)) return refuse("invalid_grant");
    spent.add(token);
    const next = `refresh-${randomBytes(24).toString("base64url")}`;
    refreshTokens.add(next);
    return issue(form, { refresh_token: next, scope: form.get("scope") ?? "all" });
  }

  function answer(form: URLSearchParams): UpstreamReply {
    switch (form.get("grant_type")) {
      case "client_credentials":
        return issue(form);
      case "refresh_token":
        return refresh(form);
      case "urn:ietf:params:oauth:grant-type:token-exchange":
        return issue(form, { issued_token_type: "urn:ietf:params:oauth:token-type:access_token" });
      case "urn:ietf:params:oauth:grant-type:jwt-bearer":
        return issue(form);
      default:
        return refuse("unsupported_grant_type");
    }
  }

  const server = await startUpstream(async (request) => {
    const form = new URLSearchParams(request.body);
    let reply: UpstreamReply = { status: 404 };
    if (request.method === "POST" && request.headers["content-type"] === "application/x-www-form-urlencoded") {
      if (!(await authenticate(request, form))) reply = refuse("invalid_client", 401);
      else if (request.path === "/token") reply = answer(form);
      else if (request.path === "/revoke") {
        live.delete(form.get("token") ?? "");
        refreshTokens.delete(form.get("token") ?? "");
        // RFC 7009 §2.2: also for a token that it does not know.
        reply = { status: 200 };
      }
    }
    return fake.meddle?.(request, reply) ?? reply;
  });
  return Object.assign(fake, server, {
    tokenUrl: `${server.url}/token`,
    revocationUrl: `${server.url}/revoke`,
    lastForm: (path = "/token") => new URLSearchParams(server.seen.findLast((one) => one.path === path)?.body ?? ""),
  });
}
