import { createPrivateKey, randomUUID, sign, type KeyObject } from "node:crypto";
import { fork } from "node:child_process";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type {
  Answer,
  Command,
  IssuedCode,
  IssuerKey,
  IssuerState,
  KeyAlgorithm,
  Misbehaviour,
  Opened,
  Page,
  SeenRequest,
} from "./oidc-issuer-protocol.ts";

/** Claims and header members to add or replace; `undefined` removes one. */
export type Members = Record<string, unknown>;

/** How one token differs from a plain good one. */
export interface MintOptions {
  /** Seconds since the epoch for `iat` and `nbf`; by default the real time. */
  readonly now?: number;
  /** `exp - iat`; default 300. */
  readonly ttl?: number;
  /** `kid` of the signing key; by default the newest key of `algorithm`. */
  readonly kid?: string;
  /** Default RS256. */
  readonly algorithm?: KeyAlgorithm;
  readonly header?: Members;
}

/** A running OIDC issuer on loopback; register it with `internal: true`. */
export interface TestIssuer {
  /** Its `iss`, without a trailing slash. */
  readonly url: string;
  readonly jwksUri: string;
  /** Signs a token: `iss`, `sub`, `jti`, `iat`, `nbf`, `exp` and what `claims` adds. There is no default `aud`. */
  mint(claims: Members, options?: MintOptions): string;
  /** Signs exactly these texts; for tokens that no JSON writer would make. */
  mintRaw(headerText: string, payloadText: string, options?: { kid?: string; algorithm?: KeyAlgorithm }): string;
  /** The newest key of an algorithm, or the one with that id. */
  key(selector?: { kid?: string; algorithm?: KeyAlgorithm }): IssuerKey;
  /** A new published key that signs from now on; the old ones stay published. @returns its kid */
  rotate(options?: { algorithm?: KeyAlgorithm; kid?: string }): Promise<string>;
  /** Takes a key out of the published set; `mint({kid})` still signs with it. */
  removeKey(kid: string): Promise<void>;
  /** Publishes further JWKs as they are, beside its own. */
  publish(jwks: unknown[]): Promise<void>;
  /** Serves a document wrongly until `null` is given. */
  misbehave(page: Page, how: Misbehaviour | null): Promise<void>;
  /** Makes an authorization code, as if somebody had signed in. */
  issueCode(issued: IssuedCode): Promise<void>;
  /** Requests since the start or the last `forgetRequests`. */
  requests(): Promise<{ total: number; discovery: number; jwks: number; token: number; seen: SeenRequest[] }>;
  forgetRequests(): Promise<void>;
  /** As it was at the start: its first keys, no misbehaviour, no requests. */
  reset(): Promise<void>;
  /** Ends the process. With a test context this happens by itself. */
  stop(): Promise<void>;
}

/**
 * Starts an issuer, in a process beside this one.
 *
 * @param t ends it after the test; without it, call `stop`, or let this process end
 * @param options keys to start with; default one RS256 and one ES256 key. `kid` names the first.
 */
export async function startIssuer(
  t?: Pick<TestContext, "after">,
  options: { algorithms?: readonly KeyAlgorithm[]; kid?: string } = {},
): Promise<TestIssuer> {
  host ??= startHost();
  const say = host;
  const command = { type: "open", algorithms: ["RS256", "ES256"], ...options } as const;
  const { issuer, url, keys } = (await say(0, command)) as Opened;
  const ask = (about: Command): Promise<unknown> => say(issuer, about);
  const stop = async (): Promise<void> => void (await ask({ type: "close" }));
  t?.after(stop);
  const rotate = async (o: { algorithm?: KeyAlgorithm; kid?: string } = {}): Promise<string> => {
    const more = {
      type: "addKey",
      algorithm: o.algorithm ?? "RS256",
      ...(o.kid === undefined ? {} : { kid: o.kid }),
    } as const;
    const key = (await ask(more)) as IssuerKey;
    keys.unshift(key);
    return key.kid;
  };
  const firstKids = keys.map((key) => key.kid);
  const findKey = (selector: { kid?: string; algorithm?: KeyAlgorithm } = {}): IssuerKey => {
    const wanted = selector.algorithm ?? (selector.kid === undefined ? "RS256" : undefined);
    const key =
      keys.find(
        (k) =>
          (selector.kid === undefined || k.kid === selector.kid) && (wanted === undefined || k.algorithm === wanted),
      ) ?? (selector.kid === undefined && selector.algorithm === undefined ? keys[0] : undefined);
    if (key === undefined) throw new Error("the test issuer has no such key");
    return key;
  };
  return {
    url,
    jwksUri: `${url}/jwks`,
    key: findKey,
    mint: (claims, o = {}) => mintWith(findKey(o), { iss: url, ...claims }, o),
    mintRaw: (header, payload, o = {}) => signCompact(findKey(o), header, payload),
    rotate,
    async removeKey(kid) {
      await ask({ type: "removeKey", kid });
    },
    async publish(jwks) {
      await ask({ type: "publish", jwks });
    },
    async misbehave(page, how) {
      await ask({ type: "misbehave", page, how });
    },
    async issueCode(issued) {
      await ask({ type: "code", issued });
    },
    async requests() {
      const { requests: seen } = (await ask({ type: "state" })) as IssuerState;
      const count = (path: string): number => seen.filter((request) => request.path === path).length;
      return {
        total: seen.length,
        discovery: count("/.well-known/openid-configuration"),
        jwks: count("/jwks"),
        token: count("/token"),
        seen,
      };
    },
    async forgetRequests() {
      await ask({ type: "forgetRequests" });
    },
    async reset() {
      await ask({ type: "reset", kids: firstKids });
      keys.splice(0, keys.length, ...keys.filter((key) => firstKids.includes(key.kid)));
    },
    stop,
  };
}

/** Signs with any issuer key, also one of another issuer. */
export function mintWith(key: IssuerKey, claims: Members, options: MintOptions = {}): string {
  const now = options.now ?? Math.floor(Date.now() / 1000);
  const payload = {
    sub: "workload-1",
    jti: randomUUID(),
    iat: now,
    nbf: now,
    exp: now + (options.ttl ?? 300),
    ...claims,
  };
  const header = { alg: key.algorithm, kid: key.kid, typ: "JWT", ...options.header };
  return signCompact(key, JSON.stringify(header), JSON.stringify(payload));
}

const privateKeys = new WeakMap<IssuerKey, KeyObject>();

/** A JWS in compact form over exactly these texts. */
export function signCompact(key: IssuerKey, headerText: string, payloadText: string): string {
  let privateKey = privateKeys.get(key);
  if (privateKey === undefined) {
    privateKey = createPrivateKey({ key: key.privateJwk, format: "jwk" });
    privateKeys.set(key, privateKey);
  }
  const input = `${Buffer.from(headerText).toString("base64url")}.${Buffer.from(payloadText).toString("base64url")}`;
  const digest = key.algorithm === "Ed25519" ? null : "sha256";
  const signature = sign(digest, Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" });
  return `${input}.${signature.toString("base64url")}`;
}

type Say = (issuer: number, command: Command) => Promise<unknown>;

/** One process for all issuers of this one. */
let host: Say | undefined;

/** Starts it. It keeps nobody from ending, and ends when its parent does. */
function startHost(): Say {
  const child = fork(fileURLToPath(new URL("./oidc-issuer-process.mjs", import.meta.url)), [], {
    execArgv: [],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  child.unref();
  child.channel?.unref();
  let lastId = 0;
  const waiting = new Map<number, (result: unknown) => void>();
  child.on("message", (answer: Answer) => {
    waiting.get(answer.id)?.(answer.result);
    waiting.delete(answer.id);
    if (waiting.size === 0) child.channel?.unref();
  });
  return (issuer, command) =>
    new Promise((resolve, reject) => {
      const id = ++lastId;
      waiting.set(id, resolve);
      child.channel?.ref();
      child.send({ id, issuer, command }, (error) => error && reject(error));
    });
}
