// Real OIDC issuers in a process of their own, started by `oidc-issuer.ts`: each on a port of its own. HTTP on loopback for what an
// issuer publishes, the IPC channel for what a test asks of it. It ends when its parent goes away. Without the loader that runs
// sources, which takes longer to start than all of this.
import { createHash, generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";

/**
 * @typedef {import("./oidc-issuer-protocol.ts").IssuerKey} IssuerKey
 * @typedef {import("./oidc-issuer-protocol.ts").IssuerState} IssuerState
 * @typedef {import("./oidc-issuer-protocol.ts").Misbehaviour} Misbehaviour
 * @typedef {import("./oidc-issuer-protocol.ts").Page} Page
 */

/**
 * @typedef {object} Issuer
 * @property {IssuerState} state
 * @property {Partial<Record<Page, Misbehaviour>>} misbehaviours
 * @property {string} url
 * @property {number} keyNumber
 * @property {import("node:http").Server} server
 */

/** @type {Map<number, Issuer>} */
const issuers = new Map();
let lastIssuer = 0;

/** RSA keys of issuers that were closed: making one takes longer than all the rest. @type {{privateJwk: object, publicJwk: object}[]} */
const spare = [];

function keyPair(algorithm) {
  const known = algorithm === "RS256" ? spare.pop() : undefined;
  if (known !== undefined) return known;
  // Not key objects, which must not be exported (src/system/key-pair.ts says why).
  const asJwk = { privateKeyEncoding: { format: "jwk" }, publicKeyEncoding: { format: "jwk" } };
  const { privateKey, publicKey } =
    algorithm === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048, ...asJwk })
      : algorithm === "ES256"
        ? generateKeyPairSync("ec", { namedCurve: "P-256", ...asJwk })
        : generateKeyPairSync("ed25519", asJwk);
  return { privateJwk: privateKey, publicJwk: publicKey };
}

function addKey(issuer, algorithm, kid) {
  const key = {
    kid: kid ?? `${algorithm.toLowerCase()}-${++issuer.keyNumber}`,
    algorithm,
    ...keyPair(algorithm),
    published: true,
  };
  // Newest first: a token is signed by the newest key of its algorithm.
  issuer.state.keys.unshift(key);
  return key;
}

function pageOf(path) {
  if (path === "/.well-known/openid-configuration") return "discovery";
  if (path === "/jwks") return "jwks";
  if (path === "/token") return "token";
  return undefined;
}

function documentOf({ url, state }, page) {
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
function redeem({ state }, body) {
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

function serve(issuer, request, response) {
  const { state, misbehaviours } = issuer;
  const page = pageOf(request.url);
  if (page === "token" && misbehaviours.token === undefined) {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString("utf8");
      state.requests.push({ path: request.url ?? "", headers: { ...request.headers }, body });
      const { status, answer } = redeem(issuer, body);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
    return;
  }
  state.requests.push({ path: request.url ?? "", headers: { ...request.headers } });
  if (page === undefined) return void response.writeHead(404).end();
  const misbehaviour = misbehaviours[page];
  if (misbehaviour === undefined) {
    response.writeHead(200, { "content-type": "application/json" });
    return void response.end(JSON.stringify(documentOf(issuer, page)));
  }
  misbehave(issuer, misbehaviour, { page, response });
}

function misbehave(issuer, how, { page, response }) {
  if (how.hang === true) return;
  const changed = how.members === undefined ? undefined : { ...documentOf(issuer, page), ...how.members };
  const body = how.body ?? (changed === undefined ? "" : JSON.stringify(changed));
  response.on("error", () => {});
  response.writeHead(how.status ?? 200, { "content-type": "application/json", ...how.headers });
  if (how.dripMs !== undefined) {
    const timer = setInterval(() => response.write(" "), how.dripMs);
    return void response.on("close", () => clearInterval(timer));
  }
  if (how.endless === true) {
    const chunk = Buffer.alloc(4096, 0x20);
    const pump = () => {
      while (!response.destroyed && response.write(chunk));
    };
    response.on("drain", pump);
    return pump();
  }
  response.end(how.bodyBase64 === undefined ? body : Buffer.from(how.bodyBase64, "base64"));
}

/** Begins an issuer with its first keys. */
async function open({ algorithms, kid }) {
  const issuer = {
    state: { keys: [], extraJwks: [], requests: [], codes: [] },
    misbehaviours: {},
    url: "",
    keyNumber: 0,
    server: createServer((request, response) => serve(issuer, request, response)),
  };
  algorithms.forEach((algorithm, i) => addKey(issuer, algorithm, i === 0 ? kid : undefined));
  await new Promise((listening) => issuer.server.listen(0, "127.0.0.1", listening));
  issuer.url = `http://127.0.0.1:${issuer.server.address().port}`;
  const id = ++lastIssuer;
  issuers.set(id, issuer);
  return { issuer: id, url: issuer.url, keys: issuer.state.keys };
}

/** Nobody is there any more, at once. */
async function close(id, issuer) {
  issuers.delete(id);
  for (const { algorithm, privateJwk, publicJwk } of issuer.state.keys)
    if (algorithm === "RS256") spare.push({ privateJwk, publicJwk });
  const closed = new Promise((done) => issuer.server.close(done));
  issuer.server.closeAllConnections();
  await closed;
}

async function obey(id, command) {
  if (command.type === "open") return await open(command);
  const issuer = issuers.get(id);
  if (issuer === undefined) return undefined;
  const { state, misbehaviours } = issuer;
  switch (command.type) {
    case "close":
      return await close(id, issuer);
    case "state":
      return state;
    case "addKey":
      return addKey(issuer, command.algorithm, command.kid);
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
      for (const page of ["discovery", "jwks", "token"]) delete misbehaviours[page];
      return undefined;
  }
}

process.on("message", ({ id, issuer, command }) => {
  void obey(issuer, command).then((result) => process.send?.({ id, result }));
});
process.on("disconnect", () => process.exit(0));
