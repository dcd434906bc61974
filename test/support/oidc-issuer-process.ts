/**
 * A real OIDC issuer in a process of its own, started by `oidc-issuer.ts`. HTTP on loopback for what an issuer publishes,
 * the IPC channel for what a test asks of it. It ends when its parent goes away.
 */
import { createHash, generateKeyPairSync } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type {
  Answer,
  Command,
  IssuerKey,
  IssuerState,
  KeyAlgorithm,
  Misbehaviour,
  Page,
} from "./oidc-issuer-protocol.ts";

const state: IssuerState = { keys: [], extraJwks: [], requests: [], codes: [] };
const misbehaviours: Partial<Record<Page, Misbehaviour>> = {};
let url = "";
let keyNumber = 0;

function generateKey(algorithm: KeyAlgorithm, kid?: string): IssuerKey {
  const pair =
    algorithm === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : algorithm === "ES256"
        ? generateKeyPairSync("ec", { namedCurve: "P-256" })
        : generateKeyPairSync("ed25519");
  return {
    kid: kid ?? `${algorithm.toLowerCase()}-${++keyNumber}`,
    algorithm,
    privateJwk: pair.privateKey.export({ format: "jwk" }) as Record<string, unknown>,
    publicJwk: pair.publicKey.export({ format: "jwk" }) as Record<string, unknown>,
    published: true,
  };
}

function pageOf(path: string | undefined): Page | undefined {
  if (path === "/.well-known/openid-configuration") return "discovery";
  if (path === "/jwks") return "jwks";
  if (path === "/token") return "token";
  return undefined;
}

function documentOf(page: Page): unknown {
  if (page === "discovery") {
    return {
      issuer: url,
      jwks_uri: `${url}/jwks`,
      authorization_endpoint: `${url}/authorize`,
      token_endpoint: `${url}/token`,
      response_types_supported: ["id_token"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: ["RS256", "ES256", "Ed25519"],
    };
  }
  const published = state.keys.filter((key) => key.published);
  return {
    keys: [...published.map((k) => ({ ...k.publicJwk, kid: k.kid, use: "sig", alg: k.algorithm })), ...state.extraJwks],
  };
}

/** The token endpoint: a code is good once, for the one that it was made for. */
function redeem(body: string): { status: number; answer: object } {
  const form = new URLSearchParams(body);
  const at = state.codes.findIndex(({ code }) => code === form.get("code"));
  const [issued] = at < 0 ? [] : state.codes.splice(at, 1);
  const challenge = createHash("sha256")
    .update(form.get("code_verifier") ?? "")
    .digest("base64url");
  const isGood =
    issued !== undefined &&
    form.get("grant_type") === "authorization_code" &&
    form.get("client_id") === issued.clientId &&
    form.get("redirect_uri") === issued.redirectUri &&
    challenge === issued.challenge;
  return isGood ? { status: 200, answer: issued.answer } : { status: 400, answer: { error: "invalid_grant" } };
}

function serve(request: IncomingMessage, response: ServerResponse): void {
  const page = pageOf(request.url);
  if (page === "token" && misbehaviours.token === undefined) {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString("utf8");
      state.requests.push({ path: request.url ?? "", headers: { ...request.headers }, body });
      const { status, answer } = redeem(body);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
    return;
  }
  state.requests.push({ path: request.url ?? "", headers: { ...request.headers } });
  if (page === undefined) return void response.writeHead(404).end();
  const misbehaviour = misbehaviours[page];
  if (misbehaviour === undefined) {
    response.writeHead(200, { "content-type": "application/json" });
    return void response.end(JSON.stringify(documentOf(page)));
  }
  misbehave(misbehaviour, page, response);
}

function misbehave(how: Misbehaviour, page: Page, response: ServerResponse): void {
  if (how.hang === true) return;
  const changed = how.members === undefined ? undefined : { ...(documentOf(page) as object), ...how.members };
  const body = how.body ?? (changed === undefined ? "" : JSON.stringify(changed));
  response.on("error", () => {});
  response.writeHead(how.status ?? 200, { "content-type": "application/json", ...how.headers });
  if (how.dripMs !== undefined) {
    const timer = setInterval(() => response.write(" "), how.dripMs);
    return void response.on("close", () => clearInterval(timer));
  }
  if (how.endless === true) {
    const chunk = Buffer.alloc(4096, 0x20);
    const pump = (): void => {
      while (!response.destroyed && response.write(chunk));
    };
    response.on("drain", pump);
    return pump();
  }
  response.end(how.bodyBase64 === undefined ? body : Buffer.from(how.bodyBase64, "base64"));
}

function obey(command: Command): unknown {
  switch (command.type) {
    case "state":
      return state;
    case "addKey": {
      const key = generateKey(command.algorithm, command.kid);
      // Newest first: a token is signed by the newest key of its algorithm.
      state.keys.unshift(key);
      return key;
    }
    case "removeKey":
      for (const key of state.keys) if (key.kid === command.kid) key.published = false;
      return undefined;
    case "publish":
      state.extraJwks = command.jwks;
      return undefined;
    case "misbehave":
      if (command.how === null) delete misbehaviours[command.page];
      else misbehaviours[command.page] = command.how;
      return undefined;
    case "code":
      state.codes.push(command.issued);
      return undefined;
    case "forgetRequests":
      state.requests = [];
      return undefined;
    case "reset":
      state.keys = state.keys.filter((key) => command.kids.includes(key.kid));
      for (const key of state.keys) key.published = true;
      Object.assign(state, { extraJwks: [], requests: [], codes: [] });
      for (const page of ["discovery", "jwks", "token"] as const) delete misbehaviours[page];
      return undefined;
  }
}

const server = createServer(serve);
process.on("message", (message: { id: number; command: Command }) => {
  const answer: Answer = { id: message.id, result: obey(message.command) };
  process.send?.(answer);
});
process.on("disconnect", () => process.exit(0));
server.listen(0, "127.0.0.1", () => {
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  process.send?.({ ready: url });
});
