import { randomBytes, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { SigV4Refusal, verifySigV4 } from "./sigv4.ts";

/** An access key of a user. */
export interface IamKey {
  readonly id: string;
  readonly secret: string;
  readonly user: string;
  readonly createdAt: Date;
  active: boolean;
}

/** How the next call of an action goes wrong. */
export type IamMishap =
  /** Done, and the connection cut before a word of the answer. */
  | "lost"
  /** Not done. */
  | { readonly code: string; readonly status: number }
  /** Done, and answered when this is over. */
  | { readonly meanwhile: () => Promise<void> }
  /** Done, and answered with this in place of what there is to say. */
  | { readonly body: string };

/**
 * An IAM that speaks AWS's query protocol for access keys: it recomputes Signature Version 4, lets a user have two keys, and acts on
 * the user whose key signed.
 */
export interface FakeIam {
  readonly url: string;
  readonly keys: Map<string, IamKey>;
  /** What an STS of the same account knows: active keys. */
  readonly known: Record<string, { secretAccessKey: string; arn: string }>;
  /** Calls that were believed: action, signer and what it was about. */
  readonly calls: { action: string; signer: string; about: string | undefined }[];
  /** A key made outside of Ephor. */
  add(user: string, key?: Partial<IamKey>): IamKey;
  ofUser(user: string): IamKey[];
  next(action: string, mishap: IamMishap): void;
  /** How far its clock is ahead, in its answers. */
  aheadMs: number;
}

const XMLNS = "https://iam.amazonaws.com/doc/2010-05-08/";
const PARAMETERS: Readonly<Record<string, readonly string[]>> = {
  ListAccessKeys: [],
  CreateAccessKey: [],
  UpdateAccessKey: ["AccessKeyId", "Status"],
  DeleteAccessKey: ["AccessKeyId"],
};

class IamRefusal extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, status: number) {
    super(code);
    this.code = code;
    this.status = status;
  }
}

/** Starts one on a free loopback port; ends with the test. */
export async function fakeIam(t: { after(fn: () => Promise<void>): void }, region = "us-east-1"): Promise<FakeIam> {
  const mishaps = new Map<string, IamMishap[]>();
  const server = createServer((request, response) => void serve({ iam, mishaps, region }, request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(
    () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  );
  const iam: FakeIam = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    keys: new Map(),
    known: {},
    calls: [],
    aheadMs: 0,
    add(user, given = {}) {
      const id = `AKIA${randomBytes(8).toString("hex").toUpperCase()}`;
      const key = {
        id,
        secret: randomBytes(30).toString("base64"),
        user,
        createdAt: new Date(),
        active: true,
        ...given,
      };
      iam.keys.set(key.id, key);
      know(iam, key);
      return key;
    },
    ofUser: (user) => [...iam.keys.values()].filter((key) => key.user === user),
    next: (action, mishap) => void mishaps.set(action, [...(mishaps.get(action) ?? []), mishap]),
  };
  return iam;
}

function know({ keys, known }: FakeIam, { id, secret, user, active }: IamKey): void {
  if (active && keys.has(id)) known[id] = { secretAccessKey: secret, arn: `arn:aws:iam::111122223333:user/${user}` };
  else delete known[id];
}

async function serve(
  at: { iam: FakeIam; mishaps: Map<string, IamMishap[]>; region: string },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  try {
    const { iam, region } = at;
    const keysOf = (id: string) => iam.known[id];
    const signer = verifySigV4(request, body, { nowMs: Date.now(), region, service: "iam", keysOf });
    const { action, params } = read(request, body);
    iam.calls.push({ action, signer, about: params["AccessKeyId"] });
    const mishap = at.mishaps.get(action)?.shift();
    if (typeof mishap === "object" && "code" in mishap) throw new IamRefusal(mishap.code, mishap.status);
    const inner = ACTIONS[action]?.(iam, iam.keys.get(signer)?.user ?? "", params) ?? "";
    if (mishap === "lost") return void response.destroy();
    if (typeof mishap === "object" && "meanwhile" in mishap) await mishap.meanwhile();
    const xml = `<${action}Response xmlns="${XMLNS}">${inner === "" ? "" : `<${action}Result>${inner}</${action}Result>`}${METADATA()}</${action}Response>`;
    response
      .writeHead(200, { "content-type": "text/xml", date: new Date(Date.now() + iam.aheadMs).toUTCString() })
      .end(mishap !== undefined && "body" in mishap ? mishap.body : xml);
  } catch (error) {
    const [code, status] =
      error instanceof SigV4Refusal
        ? [error.code, 403]
        : error instanceof IamRefusal
          ? [error.code, error.status]
          : ["ServiceFailure", 500];
    // As AWS does, its prose says what was sent.
    const prose = `CANARY of ${request.headers.authorization?.replaceAll(/[<>&]/g, "") ?? ""}`;
    response
      .writeHead(status, { "content-type": "text/xml" })
      .end(
        `<ErrorResponse xmlns="${XMLNS}"><Error><Type>Sender</Type><Code>${code}</Code><Message>${prose}</Message></Error><RequestId>${randomUUID()}</RequestId></ErrorResponse>`,
      );
  }
}

const METADATA = (): string => `<ResponseMetadata><RequestId>${randomUUID()}</RequestId></ResponseMetadata>`;

function read(request: IncomingMessage, body: Buffer): { action: string; params: Readonly<Record<string, string>> } {
  const type = request.headers["content-type"] ?? "";
  if (request.method !== "POST" || request.url !== "/" || !/^application\/x-www-form-urlencoded\b/.test(type))
    throw new IamRefusal("MalformedQueryString", 404);
  const pairs = [...new URLSearchParams(body.toString("utf8"))];
  const params = Object.fromEntries(pairs);
  const { Action: action = "", Version: version, ...others } = params;
  const wanted = PARAMETERS[action];
  if (wanted === undefined || version !== "2010-05-08") throw new IamRefusal("InvalidAction", 400);
  if (pairs.length !== wanted.length + 2 || wanted.some((name) => !Object.hasOwn(others, name)))
    throw new IamRefusal("ValidationError", 400);
  return { action, params };
}

type Action = (iam: FakeIam, user: string, params: Readonly<Record<string, string>>) => string;

const ACTIONS: Readonly<Record<string, Action>> = {
  ListAccessKeys(iam, user) {
    const members = iam.ofUser(user).map((key) => `<member>${memberOf(key)}</member>`);
    return `<UserName>${user}</UserName><AccessKeyMetadata>${members.join("")}</AccessKeyMetadata><IsTruncated>false</IsTruncated>`;
  },
  CreateAccessKey(iam, user) {
    if (iam.ofUser(user).length >= 2) throw new IamRefusal("LimitExceeded", 409);
    const key = iam.add(user);
    return `<AccessKey>${memberOf(key)}<SecretAccessKey>${key.secret}</SecretAccessKey></AccessKey>`;
  },
  UpdateAccessKey(iam, user, { AccessKeyId: id = "", Status: status }) {
    const key = keyOf(iam, user, id);
    if (status !== "Active" && status !== "Inactive") throw new IamRefusal("ValidationError", 400);
    key.active = status === "Active";
    know(iam, key);
    return "";
  },
  DeleteAccessKey(iam, user, { AccessKeyId: id = "" }) {
    const key = keyOf(iam, user, id);
    iam.keys.delete(id);
    know(iam, key);
    return "";
  },
};

function keyOf({ keys }: FakeIam, user: string, id: string): IamKey {
  const key = keys.get(id);
  if (key?.user !== user) throw new IamRefusal("NoSuchEntity", 404);
  return key;
}

function memberOf({ user, id, active, createdAt }: IamKey): string {
  const at = createdAt.toISOString().replace(/\.\d+Z$/, "Z");
  return `<UserName>${user}</UserName><AccessKeyId>${id}</AccessKeyId><Status>${active ? "Active" : "Inactive"}</Status><CreateDate>${at}</CreateDate>`;
}
