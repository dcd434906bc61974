import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { arnOf, assumeRole, assumeRoleWithWebIdentity, StsRefusal, xmlText } from "./fake-sts-roles.ts";
import type { StsCall, StsOptions, StsSession, StsState } from "./fake-sts-roles.ts";
import { evaluatePolicy } from "./iam-policy.ts";
import type { IamPolicy } from "./iam-policy.ts";
import { SigV4Refusal, verifySigV4 } from "./sigv4.ts";

/**
 * A security token service that speaks AWS's query protocol: it recomputes Signature Version 4, checks every parameter
 * against its documented form, evaluates the role's trust policy, verifies web-identity tokens (their keys found by
 * discovery, as AWS does), and keeps what a session may do, so that a test can ask what AWS would say at any second.
 */
export interface FakeSts {
  readonly url: string;
  readonly region: string;
  /** Requests in order, also refused ones. */
  readonly calls: readonly StsCall[];
  /** Answers that were sent to their end. */
  answered(): number;
  /** Bytes that dripped. */
  dripped(): number;
  /** Live sessions by access key id. */
  readonly sessions: ReadonlyMap<string, StsSession>;
  /** The next answers, in place of the real ones; after them it is itself again. */
  next(...answers: StsAnswer[]): void;
  /** Drops planned answers that were not given. */
  forget(): void;
  /** Whether AWS would do this for a session at that second: its end, the role's policy, the session's policy. */
  allows(accessKeyId: string, request: { action: string; resource: string; at: number }): boolean;
  close(): Promise<void>;
}

/** How an answer may go wrong. A string in an object is answered as an error of that code. */
export type StsAnswer =
  | {
      readonly code: string;
      readonly status?: number;
      readonly message?: string;
      /** It is answered when this is over. */
      readonly meanwhile?: () => Promise<void>;
    }
  | { readonly body: string; readonly status?: number; readonly headers?: Readonly<Record<string, string>> }
  | "silence"
  | "drip"
  | "reset";

const ALLOW_ALL: IamPolicy = { Statement: { Effect: "Allow", Action: "*", Resource: "*" } };
const XMLNS = "https://sts.amazonaws.com/doc/2011-06-15/";

/** Starts one on a free loopback port; ends with the test. */
export async function fakeSts(t: { after(fn: () => Promise<void>): void }, options: StsOptions): Promise<FakeSts> {
  const queue: StsAnswer[] = [];
  const state: StsState = {
    options,
    region: options.region ?? "eu-west-1",
    nowMs: options.nowMs ?? Date.now,
    sessions: new Map(),
    calls: [],
  };
  const count = { answers: 0, drops: 0 };
  const server = createServer((request, response) => {
    response.on("finish", () => count.answers++);
    void serve(request, response, { state, queue, count });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.closeAllConnections();
      server.close(() => resolve());
    });
  t.after(close);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    region: state.region,
    calls: state.calls,
    sessions: state.sessions,
    answered: () => count.answers,
    dripped: () => count.drops,
    next: (...answers) => void queue.push(...answers),
    forget: () => void queue.splice(0),
    allows: (accessKeyId, request) => allows(state, accessKeyId, request),
    close,
  };
}

function allows(
  { sessions, options }: StsState,
  accessKeyId: string,
  request: { action: string; resource: string; at: number },
): boolean {
  const session = sessions.get(accessKeyId);
  if (session === undefined || request.at * 1000 >= session.expiration.getTime()) return false;
  const tags = Object.entries(session.tags).map(([key, value]) => [`aws:PrincipalTag/${key}`, value]);
  const context = { ...Object.fromEntries(tags), "aws:SourceIdentity": session.sourceIdentity ?? "" };
  const role = options.roles[session.roleArn]?.policy ?? ALLOW_ALL;
  return [role, session.policy ?? ALLOW_ALL].every(
    (policy) => evaluatePolicy(policy, { ...request, context }) === "allow",
  );
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  { state, queue, count }: { state: StsState; queue: StsAnswer[]; count: { drops: number } },
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  try {
    const xml = await answer(state, request, body, () => {
      const planned = queue.shift();
      if (planned !== undefined) misbehave(planned, response, count);
      return planned !== undefined;
    });
    if (xml !== undefined) send(response, 200, xml);
  } catch (error) {
    if (error instanceof SigV4Refusal) return sendError(response, error.code, 403, error.message);
    if (error instanceof StsRefusal) return sendError(response, error.code, error.status, error.message);
    sendError(response, "InternalFailure", 500, String(error));
  }
}

async function answer(
  state: StsState,
  request: IncomingMessage,
  body: Buffer,
  isPlanned: () => boolean,
): Promise<string | undefined> {
  const type = request.headers["content-type"] ?? "";
  if (request.method !== "POST" || request.url !== "/" || !/^application\/x-www-form-urlencoded\b/.test(type))
    throw new StsRefusal("MalformedQueryString", "not a form by POST /", 404);
  const params: Record<string, string> = {};
  for (const [name, value] of new URLSearchParams(body.toString("utf8"))) {
    if (Object.hasOwn(params, name)) throw new StsRefusal("MalformedQueryString", name);
    params[name] = value;
  }
  const action = params["Action"] ?? "";
  const isSigned = action !== "AssumeRoleWithWebIdentity";
  if (!isSigned && request.headers.authorization !== undefined)
    throw new StsRefusal("ValidationError", "this call is not signed");
  const call = (signer: string | undefined): number =>
    state.calls.push({ action, params, headers: request.headers, signer });
  let signer: string | undefined;
  try {
    if (isSigned) signer = verify(state, request, body);
  } finally {
    call(signer);
  }
  if (isPlanned()) return undefined;
  if (params["Version"] !== "2011-06-15") throw new StsRefusal("InvalidAction", "Version");
  if (action === "GetCallerIdentity") return result(action, callerIdentity(state, signer ?? ""));
  if (action === "AssumeRole") return result(action, assumeRole(state, params, signer ?? ""));
  if (action === "AssumeRoleWithWebIdentity") return result(action, await assumeRoleWithWebIdentity(state, params));
  throw new StsRefusal("InvalidAction", action);
}

function verify({ options, sessions, nowMs, region }: StsState, request: IncomingMessage, body: Buffer): string {
  const keysOf = (id: string) => options.keys?.[id] ?? sessions.get(id);
  const signer = verifySigV4(request, body, { nowMs: nowMs(), region, service: "sts", keysOf });
  const session = sessions.get(signer);
  if (session !== undefined && session.expiration.getTime() <= nowMs()) throw new StsRefusal("ExpiredToken", "", 403);
  return signer;
}

/** Needs no permission, and no policy can take it away. */
function callerIdentity(state: StsState, signer: string): string {
  const arn = arnOf(state, signer);
  return `<Arn>${xmlText(arn)}</Arn><UserId>AROAEXAMPLE:${xmlText(arn.split("/").at(-1) ?? "")}</UserId><Account>${xmlText(
    arn.split(":")[4] ?? "",
  )}</Account>`;
}

function result(action: string, inner: string): string {
  return `<${action}Response xmlns="${XMLNS}"><${action}Result>${inner}</${action}Result><ResponseMetadata><RequestId>${randomUUID()}</RequestId></ResponseMetadata></${action}Response>`;
}

function sendError(response: ServerResponse, code: string, status: number, message: string): void {
  const type = status >= 500 ? "Receiver" : "Sender";
  send(
    response,
    status,
    `<ErrorResponse xmlns="${XMLNS}"><Error><Type>${type}</Type><Code>${xmlText(code)}</Code><Message>${xmlText(message)}</Message></Error><RequestId>${randomUUID()}</RequestId></ErrorResponse>`,
  );
}

function send(response: ServerResponse, status: number, xml: string): void {
  response.writeHead(status, { "content-type": "text/xml" }).end(xml);
}

function misbehave(how: StsAnswer, response: ServerResponse, count: { drops: number }): void {
  if (how === "reset") response.destroy();
  else if (how === "drip") {
    response.writeHead(200, { "content-type": "text/xml" }).write("<AssumeRoleResponse>");
    const drops = setInterval(() => {
      count.drops++;
      response.write(" ");
    }, 10);
    response.on("close", () => clearInterval(drops));
  } else if (how === "silence") return;
  else if ("code" in how) {
    const { code, status = 400, message = code, meanwhile = async () => {} } = how;
    void meanwhile().then(() => sendError(response, code, status, message));
  } else response.writeHead(how.status ?? 200, { "content-type": "text/xml", ...how.headers }).end(how.body);
}
