import { createPublicKey, randomBytes, verify, type KeyObject } from "node:crypto";
import { startUpstream, type SeenRequest, type UpstreamReply, type UpstreamServer } from "./upstream-server.ts";

/** An installation as its owner has set it up. */
export interface FakeInstallation {
  readonly owner: string;
  readonly repositories: readonly string[];
  readonly permissions: Readonly<Record<string, string>>;
}

/** GitHub's two endpoints for installation tokens, with its rules: what it checks is checked, what it refuses is refused. */
export interface FakeGithub extends UpstreamServer {
  /** JWTs that it took, decoded. */
  readonly appJwts: readonly { header: Record<string, unknown>; claims: Record<string, unknown> }[];
  /** Tokens that are good now. */
  readonly live: ReadonlySet<string>;
  /** Requests that it is too busy for: 503, and nothing is done. */
  isAwayFor: ((request: SeenRequest) => boolean) | undefined;
  /** Changes the next answers to one kind of request; undefined as result leaves it as it is. */
  meddle:
    | ((request: SeenRequest, reply: UpstreamReply) => UpstreamReply | undefined | Promise<UpstreamReply>)
    | undefined;
}

const LEVELS = ["read", "write", "admin"];

/** @param app as it is known to GitHub, with its public key; `now` is GitHub's clock in seconds */
export async function startFakeGithub(app: {
  readonly ids: readonly string[];
  readonly publicKey: KeyObject;
  readonly installationId: number;
  readonly installation: FakeInstallation;
  readonly now: () => number;
}): Promise<FakeGithub> {
  const live = new Set<string>();
  const appJwts: { header: Record<string, unknown>; claims: Record<string, unknown> }[] = [];
  const fake = {
    live,
    appJwts,
    meddle: undefined as FakeGithub["meddle"],
    isAwayFor: undefined as FakeGithub["isAwayFor"],
  };

  function checkJwt(token: string): boolean {
    const [header = "", payload = "", signature = ""] = token.split(".");
    const decode = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>;
    const decoded = { header: decode(header), claims: decode(payload) };
    const isSigned = verify(
      "sha256",
      Buffer.from(`${header}.${payload}`),
      createPublicKey(app.publicKey.export({ type: "spki", format: "pem" })),
      Buffer.from(signature, "base64url"),
    );
    const { iat, exp, iss } = decoded.claims as { iat: number; exp: number; iss: unknown };
    const isTimely = iat <= app.now() && exp > app.now() && exp <= app.now() + 600;
    if (!isSigned || decoded.header["alg"] !== "RS256" || !isTimely || !app.ids.includes(String(iss))) return false;
    appJwts.push(decoded);
    return true;
  }

  function create(body: string): UpstreamReply {
    const { repositories, permissions } = JSON.parse(body || "{}") as {
      repositories?: string[];
      permissions?: Record<string, string>;
    };
    const has = app.installation;
    const isMore = ([name, level]: [string, string]) =>
      LEVELS.indexOf(level) > LEVELS.indexOf(has.permissions[name] ?? "");
    const lower = (name: string) => name.toLowerCase();
    const names = repositories?.map((name) => has.repositories.find((own) => lower(own) === lower(name)));
    if (Object.entries(permissions ?? {}).some(isMore) || names?.includes(undefined))
      return { status: 422, body: { message: "canary-github-text", documentation_url: "https://docs.github.com/" } };
    // None is all.
    const given = permissions === undefined || Object.keys(permissions).length === 0 ? has.permissions : permissions;
    const token = `ghs_${app.ids[0]}_${randomBytes(380).toString("base64url")}`;
    live.add(token);
    return {
      status: 201,
      body: {
        token,
        expires_at: new Date((app.now() + 3600) * 1000).toISOString().replace(".000Z", "Z"),
        permissions: { ...given, metadata: "read" },
        repository_selection: names ? "selected" : "all",
        ...(names && { repositories: names.map((name, id) => repository(has.owner, String(name), id)) }),
      },
    };
  }

  function answer(request: SeenRequest): UpstreamReply {
    const { method, path, headers, body } = request;
    const bearer = (headers.authorization ?? "").replace(/^Bearer /, "");
    if (headers["user-agent"] === undefined) return { status: 403, body: "Request forbidden by administrative rules." };
    if (method === "POST" && path.startsWith("/app/installations/")) {
      if (!checkJwt(bearer)) return { status: 401, body: { message: "A JSON web token could not be decoded" } };
      if (path !== `/app/installations/${app.installationId}/access_tokens`)
        return { status: 404, body: { message: "Not Found" } };
      return create(body);
    }
    if (!live.has(bearer)) return { status: 401, body: { message: "Bad credentials" } };
    if (method === "DELETE" && path === "/installation/token") {
      live.delete(bearer);
      return { status: 204 };
    }
    return path === "/installation/repositories" ? { status: 200, body: {} } : { status: 404, body: {} };
  }

  const server = await startUpstream((request) => {
    const reply = fake.isAwayFor?.(request) === true ? { status: 503, body: {} } : answer(request);
    return fake.meddle?.(request, reply) ?? reply;
  });
  return Object.assign(fake, server);
}

/** As long as GitHub's. */
function repository(owner: string, name: string, id: number): object {
  const links = Array.from({ length: 40 }, (_, i) => [
    `link_${i}_url`,
    `https://api.github.com/repos/${owner}/${name}/${"x".repeat(60)}`,
  ]);
  return { id: 1_296_269 + id, name, full_name: `${owner}/${name}`, private: true, ...Object.fromEntries(links) };
}
