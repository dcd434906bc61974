import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from "jose";
import type { JSONWebKeySet } from "jose";
import { evaluatePolicy } from "./iam-policy.ts";
import type { IamPolicy } from "./iam-policy.ts";

export interface StsCall {
  readonly action: string;
  readonly params: Readonly<Record<string, string>>;
  readonly headers: IncomingMessage["headers"];
  /** access key id that signed; undefined for a call without a signature */
  readonly signer: string | undefined;
}

export interface StsSession {
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly expiration: Date;
  readonly arn: string;
  readonly roleArn: string;
  readonly sourceIdentity: string | undefined;
  readonly tags: Readonly<Record<string, string>>;
  readonly transitiveTagKeys: readonly string[];
  readonly policy: IamPolicy | undefined;
}

export interface StsRole {
  readonly trust: IamPolicy;
  /** what the role itself may do; default everything */
  readonly policy?: IamPolicy;
}

export interface StsOptions {
  /** long-lived keys by access key id; `arn` is who they are to trust policies */
  readonly keys?: Readonly<Record<string, { secretAccessKey: string; sessionToken?: string; arn: string }>>;
  readonly roles: Readonly<Record<string, StsRole>>;
  /** OIDC providers registered in IAM, by issuer URL; without `jwks` they are fetched by discovery */
  readonly providers?: Readonly<Record<string, { clientIds: readonly string[]; jwks?: JSONWebKeySet }>>;
  readonly region?: string;
  readonly nowMs?: () => number;
}

/** What one service of the fake holds. */
export interface StsState {
  readonly options: StsOptions;
  readonly region: string;
  readonly nowMs: () => number;
  readonly sessions: Map<string, StsSession>;
  readonly calls: StsCall[];
}

/** A refusal in AWS's words. Its message repeats what was sent, as AWS's messages do. */
export class StsRefusal extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status = 400) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

const COMMON_PARAMETERS = ["Action", "Version", "RoleArn", "RoleSessionName", "DurationSeconds", "Policy"];

/** Who a key is. */
export function arnOf({ options, sessions }: StsState, signer: string): string {
  return options.keys?.[signer]?.arn ?? sessions.get(signer)?.arn ?? "";
}

/** The call signed with keys of AWS. */
export function assumeRole(state: StsState, params: Readonly<Record<string, string>>, signer: string): string {
  const tags = members(params, "Tags", ["Key", "Value"]);
  const transitive = members(params, "TransitiveTagKeys", [""]).map((member) => member[""] ?? "");
  const arn = arnOf(state, signer);
  return open(state, params, {
    tags: Object.fromEntries(tags.map(({ Key = "", Value = "" }) => [Key, Value])),
    tagCount: tags.length,
    transitive,
    sourceIdentity: params["SourceIdentity"],
    action: "sts:AssumeRole",
    principal: { AWS: arn },
    context: params["ExternalId"] === undefined ? {} : { "sts:ExternalId": params["ExternalId"] },
    allowed: ["Tags", "TransitiveTagKeys", "SourceIdentity", "ExternalId"],
  });
}

/** The call proved by a token. */
export async function assumeRoleWithWebIdentity(
  state: StsState,
  params: Readonly<Record<string, string>>,
): Promise<string> {
  const claims = await tokenClaims(state, params["WebIdentityToken"] ?? "");
  const provider = String(claims["iss"]).replace(/^https?:\/\//, "");
  const account = (params["RoleArn"] ?? "").split(":")[4] ?? "";
  const tags = claims["https://aws.amazon.com/tags"] as
    | { principal_tags?: Record<string, string[]>; transitive_tag_keys?: string[] }
    | undefined;
  const source = claims["https://aws.amazon.com/source_identity"] as string | undefined;
  const pairs = Object.entries(tags?.principal_tags ?? {});
  if (pairs.some(([, values]) => !Array.isArray(values) || values.length !== 1))
    throw new StsRefusal("InvalidIdentityToken", "principal_tags");
  const audience = claims["azp"] ?? claims["aud"];
  const context = { [`${provider}:aud`]: String(audience), [`${provider}:sub`]: String(claims["sub"]) };
  const opened = open(state, params, {
    tags: Object.fromEntries(pairs.map(([key, values]) => [key, values[0] ?? ""])),
    tagCount: pairs.length,
    transitive: tags?.transitive_tag_keys ?? [],
    sourceIdentity: source,
    action: "sts:AssumeRoleWithWebIdentity",
    principal: { Federated: `arn:aws:iam::${account}:oidc-provider/${provider}` },
    context,
    allowed: ["WebIdentityToken", "ProviderId"],
  });
  return `${opened}<SubjectFromWebIdentityToken>${xmlText(String(claims["sub"]))}</SubjectFromWebIdentityToken><Audience>${xmlText(
    String(audience),
  )}</Audience><Provider>${xmlText(provider)}</Provider>`;
}

async function tokenClaims({ options, nowMs }: StsState, token: string): Promise<Record<string, unknown>> {
  let issuer: string;
  try {
    issuer = String(JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8")).iss);
  } catch {
    throw new StsRefusal("InvalidIdentityToken", `The token ${token} could not be read`);
  }
  const provider = options.providers?.[issuer];
  if (provider === undefined) throw new StsRefusal("InvalidIdentityToken", `No OpenIDConnect provider for ${token}`);
  const keys = provider.jwks ?? (await discover(issuer));
  try {
    const { payload } = await jwtVerify(token, "keys" in keys ? createLocalJWKSet(keys) : createRemoteJWKSet(keys), {
      issuer,
      algorithms: ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"],
      requiredClaims: ["sub", "aud", "exp", "iat"],
      currentDate: new Date(nowMs()),
    });
    const audience = payload["azp"] ?? payload.aud;
    if (typeof audience !== "string" || !provider.clientIds.includes(audience)) throw new Error("aud");
    return payload;
  } catch {
    throw new StsRefusal("InvalidIdentityToken", `Incorrect token ${token}`);
  }
}

async function discover(issuer: string): Promise<URL> {
  try {
    const metadata = (await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()) as {
      issuer: string;
      jwks_uri: string;
    };
    if (metadata.issuer === issuer) return new URL(metadata.jwks_uri);
  } catch {
    // Answered below.
  }
  throw new StsRefusal("IDPCommunicationError", issuer);
}

interface Opening {
  readonly tags: Readonly<Record<string, string>>;
  readonly tagCount: number;
  readonly transitive: readonly string[];
  readonly sourceIdentity: string | undefined;
  readonly action: string;
  readonly principal: Readonly<Record<string, string>>;
  readonly context: Readonly<Record<string, string>>;
  /** parameters that this call has beside the common ones */
  readonly allowed: readonly string[];
}

/** Checks what both calls have, asks the role's trust policy, and makes the session. */
function open(state: StsState, params: Readonly<Record<string, string>>, o: Opening): string {
  const { RoleArn: roleArn = "", RoleSessionName: name = "", DurationSeconds: duration = "3600", Policy } = params;
  const known = new Set([...COMMON_PARAMETERS, ...o.allowed]);
  const unknown = Object.keys(params).find((key) => !known.has(key.split(".")[0] ?? ""));
  check(unknown === undefined, `unknown parameter ${unknown}`);
  check(/^[\w+=,.@-]{2,64}$/.test(name), `RoleSessionName ${name}`);
  check(/^\d+$/.test(duration) && Number(duration) >= 900 && Number(duration) <= 43_200, `DurationSeconds ${duration}`);
  checkTags(o);
  if (Policy !== undefined) check(/^[\t\n\r\x20-\xff]{1,2048}$/.test(Policy), `Policy of ${Policy.length} characters`);
  const policy = Policy === undefined ? undefined : (readPolicy(Policy) as IamPolicy);
  const role = state.options.roles[roleArn];
  const source = o.sourceIdentity;
  const context = {
    ...o.context,
    "sts:RoleSessionName": name,
    ...(source !== undefined && { "sts:SourceIdentity": source }),
    ...Object.fromEntries(Object.entries(o.tags).map(([key, value]) => [`aws:RequestTag/${key}`, value])),
  };
  const needed = [
    o.action,
    ...(o.tagCount > 0 ? ["sts:TagSession"] : []),
    ...(source === undefined ? [] : ["sts:SetSourceIdentity"]),
  ];
  for (const action of needed) {
    // A trust policy has no resource: it stands on one.
    const at = Math.floor(state.nowMs() / 1000);
    const request = { action, resource: roleArn, at, principal: o.principal, context };
    if (role === undefined || evaluatePolicy(role.trust, request) !== "allow")
      throw new StsRefusal(
        "AccessDenied",
        `${JSON.stringify(o.principal)} is not authorized to perform: ${action}`,
        403,
      );
  }
  return newSession(state, { roleArn, name, duration: Number(duration), policy, opening: o });
}

function newSession(
  { sessions, nowMs }: StsState,
  o: { roleArn: string; name: string; duration: number; policy: IamPolicy | undefined; opening: Opening },
): string {
  const accessKeyId = `ASIA${randomBytes(8).toString("hex").toUpperCase()}`;
  const [, , , , account = "", path = ""] = o.roleArn.split(":");
  const made: StsSession = {
    secretAccessKey: randomBytes(30).toString("base64"),
    sessionToken: randomBytes(300).toString("base64"),
    // AWS answers whole seconds.
    expiration: new Date((Math.floor(nowMs() / 1000) + o.duration) * 1000),
    arn: `arn:aws:sts::${account}:assumed-role/${path.split("/").at(-1)}/${o.name}`,
    roleArn: o.roleArn,
    sourceIdentity: o.opening.sourceIdentity,
    tags: o.opening.tags,
    transitiveTagKeys: o.opening.transitive,
    policy: o.policy,
  };
  sessions.set(accessKeyId, made);
  const source = made.sourceIdentity;
  return [
    `<Credentials><AccessKeyId>${accessKeyId}</AccessKeyId><SecretAccessKey>${xmlText(made.secretAccessKey)}</SecretAccessKey>`,
    `<SessionToken>${xmlText(made.sessionToken)}</SessionToken>`,
    `<Expiration>${made.expiration.toISOString().replace(".000Z", "Z")}</Expiration></Credentials>`,
    `<AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:${xmlText(o.name)}</AssumedRoleId><Arn>${xmlText(made.arn)}</Arn></AssumedRoleUser>`,
    "<PackedPolicySize>12</PackedPolicySize>",
    source === undefined ? "" : `<SourceIdentity>${xmlText(source)}</SourceIdentity>`,
  ].join("");
}

function checkTags({ tags, tagCount, transitive, sourceIdentity }: Opening): void {
  const keys = Object.keys(tags);
  check(tagCount <= 50 && keys.length === tagCount, "Tags");
  check(new Set(keys.map((key) => key.toLowerCase())).size === tagCount, "Duplicate tag keys");
  for (const [key, value] of Object.entries(tags)) {
    check(/^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,128}$/u.test(key) && !/^aws:/i.test(key), `Tag key ${key}`);
    check(/^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$/u.test(value), `Tag value ${value}`);
  }
  check(
    transitive.every((key) => keys.includes(key)),
    "TransitiveTagKeys",
  );
  const isSource = sourceIdentity === undefined || /^(?!aws:)[\w+=,.@-]{2,64}$/.test(sourceIdentity);
  check(isSource, `SourceIdentity ${sourceIdentity}`);
}

function readPolicy(text: string): unknown {
  try {
    const policy = JSON.parse(text) as IamPolicy;
    const statements = [policy.Statement].flat();
    const sids = statements.map((statement) => statement && "Sid" in statement && statement.Sid).filter(Boolean);
    if (statements.length === 0 || new Set(sids).size !== sids.length) throw new Error("statements");
    // Throws on an operator or a date that nobody knows.
    evaluatePolicy(policy, { action: "s3:GetObject", resource: "*", at: 0 });
    return policy;
  } catch {
    throw new StsRefusal("MalformedPolicyDocument", text);
  }
}

function members(params: Readonly<Record<string, string>>, list: string, fields: readonly string[]) {
  const found: Record<string, string>[] = [];
  for (let i = 1; ; i++) {
    const entries = fields.map((field) => [field, params[[list, "member", i, ...(field ? [field] : [])].join(".")]]);
    const present = entries.filter(([, value]) => value !== undefined);
    if (present.length === 0) return found;
    found.push(Object.fromEntries(present) as Record<string, string>);
  }
}

function check(isTrue: boolean, what: string): void {
  if (!isTrue) throw new StsRefusal("ValidationError", `1 validation error detected: ${what}`);
}

/** Text for XML. */
export function xmlText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
