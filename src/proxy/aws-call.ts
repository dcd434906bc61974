/**
 * What a call to AWS has beside any other: it is signed here, so whatever would say who signed is kept back or refused, and
 * each spelling that AWS computes its signature over is written anew from what was decided on.
 */
import type { InjectedCredential } from "../broker/injected.ts";
import { isAwsSigningHeader, type AwsScope } from "../core/trust/aws-endpoint.ts";
import { awsEncoded, signedAwsHeaders } from "../system/aws-signature.ts";
import type { BodyBounds } from "./admission.ts";
import { isPlainQuery, parametersOf } from "./canonical-path.ts";
import type { ProxiedRequest } from "./exchange.ts";
import type { HeaderLines } from "./forwarded-headers.ts";
import { malformed, readJsonBody, typeOf, type RequestBody } from "./request-body.ts";
import type { HttpUpstream } from "./upstream.ts";

const FORM_TYPE = "application/x-www-form-urlencoded";
/** AWS's own JSON protocols beside the usual type. */
const JSON_TYPE = /^application\/(?:json|x-amz-json-1\.[01])$/;

/** Headers of AWS's protocols that callers may always send: what is asked for, and sums over the body. */
const PASSED: ReadonlySet<string> = new Set([
  "amz-sdk-invocation-id",
  "amz-sdk-request",
  "content-md5",
  "smithy-protocol",
  "x-amz-checksum-crc32",
  "x-amz-checksum-crc32c",
  "x-amz-checksum-crc64nvme",
  "x-amz-checksum-mode",
  "x-amz-checksum-sha1",
  "x-amz-checksum-sha256",
  "x-amz-sdk-checksum-algorithm",
  "x-amz-target",
  "x-amzn-query-mode",
]);
/** Who asks by which program: left out, as `User-Agent` is. */
const LEFT_OUT: ReadonlySet<string> = new Set(["x-amz-user-agent", "x-amzn-trace-id"]);

/** Parameters by which a presigned URL, or an old signature, says who signed it. */
const PRESIGNED =
  /^(?:x-amz-(?:algorithm|credential|date|expires|security-token|signature|signedheaders)|awsaccesskeyid)$/i;

/** Decoded parameters, each name once. */
type Parameters = Readonly<Record<string, unknown>>;

/**
 * Lower-case names of the headers that a caller may send to AWS. What a dummy signature of an SDK adds is left out.
 *
 * @throws {InvalidRequestError} for a header of AWS that nobody named: it could mean something, and would not arrive
 */
export function awsForward(lines: HeaderLines, forward: ReadonlySet<string>): ReadonlySet<string> {
  const names = new Set([...PASSED, ...forward].filter((name) => !isAwsSigningHeader(name)));
  for (const [written] of lines) {
    const name = written.toLowerCase();
    const isAws = /^x[-_]amz/.test(name) && !LEFT_OUT.has(name) && !isAwsSigningHeader(name);
    if (isAws && !names.has(name))
      throw malformed("A header of AWS is not passed on: name it in `forward` of the resource, or leave it out.");
  }
  return names;
}

/** A body as AWS gets it: hashed whole, save what flows to S3. @throws {InvalidRequestError} */
export async function readAwsBody(
  request: ProxiedRequest,
  contentType: string | undefined,
  at: { readonly upstream: HttpUpstream; readonly bounds: BodyBounds },
): Promise<RequestBody> {
  const { upstream, bounds } = at;
  const type = typeOf(request, contentType);
  const isObject = upstream.aws?.service === "s3";
  // A form with a policy of its own would be let in by that.
  if (isObject && type === "multipart/form-data") throw malformed("S3 takes no forms here; use PUT.");
  if (isObject && upstream.origin.startsWith("https:")) {
    // An object is data: nothing in it is decided on.
    const flowing = request.flow(bounds.flowBytes);
    if (flowing !== undefined && request.length === undefined) throw malformed("The body must say its length.");
    return { body: flowing, json: {}, over: bounds.over.flow(request.length ?? 0) };
  }
  if (!isObject && JSON_TYPE.test(type)) return await readJsonBody(request, contentType, bounds);
  const bytes = await request.read(bounds.readBytes);
  if (bytes.byteLength === 0) return { body: undefined, json: {} };
  if (type === "") throw malformed("The body has no content type.");
  const over = bounds.over.read(bytes.byteLength);
  return type === FORM_TYPE && !isObject ? { ...readForm(bytes), over } : { body: bytes, json: {}, over };
}

/** The query protocol: what conditions see as `args` is what is sent. */
function readForm(bytes: Uint8Array): RequestBody {
  const text = Buffer.from(bytes).toString("latin1");
  const json = isPlainQuery(text) ? parametersOf(text) : undefined;
  if (json === undefined || Object.values(json).some((value) => typeof value !== "string"))
    throw malformed("The form cannot be read, or has a name twice.");
  return { body: queryOf(json), value: json, json, bound: JSON.stringify(json) };
}

/** Refuses a call that says twice what it is, or who signed it: AWS would take one, and the decision another. */
export function checkAwsCall(of: {
  readonly parameters: Parameters;
  readonly headers: Readonly<Record<string, string>>;
  /** What was read of the body. */
  readonly json: Parameters;
}): void {
  const { parameters, headers, json } = of;
  if (!/^[\w.]{0,128}$/.test(headers["x-amz-target"] ?? "")) throw malformed("X-Amz-Target names no operation.");
  for (const name of [...Object.keys(parameters), ...(isForm(headers) ? Object.keys(json) : [])])
    if (PRESIGNED.test(name)) throw malformed("A signature of the caller's is not taken: Ephor signs.");
  if (Object.keys(json).some((name) => Object.hasOwn(parameters, name)))
    throw malformed("A name stands in the query and in the body.");
  const ways = [
    headers["x-amz-target"] !== undefined,
    headers["smithy-protocol"] !== undefined,
    isForm(headers) || parameters["Action"] !== undefined,
  ];
  if (ways.filter(Boolean).length > 1) throw malformed("The operation is named in two ways.");
}

function isForm(headers: Readonly<Record<string, string>>): boolean {
  return headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase() === FORM_TYPE;
}

/** The path and the query in the one spelling that is signed. @param segments decoded; @param path as it came */
export function awsTarget(
  upstream: HttpUpstream,
  of: { readonly path: string; readonly segments: readonly string[]; readonly parameters: Parameters },
): { readonly path: string; readonly target: string } {
  const below = of.path === "" ? "" : `/${of.segments.map(awsEncoded).join("/")}`;
  const path = `${upstream.basePath}${below}` || "/";
  const query = queryOf(of.parameters);
  return { path, target: query === "" ? path : `${path}?${query}` };
}

function queryOf(parameters: Parameters): string {
  return Object.entries(parameters)
    .flatMap(([name, value]) => [value].flat().map((one) => `${awsEncoded(name)}=${awsEncoded(String(one))}`))
    .join("&");
}

/** A call that is ready to be signed. */
export interface AwsCall {
  readonly scope: AwsScope;
  readonly origin: string;
  readonly method: string;
  /** As it is sent. */
  readonly path: string;
  readonly parameters: Parameters;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: RequestBody["body"];
}

/**
 * The headers that the signature adds.
 *
 * @param nowMs by the database's clock, by which the session's end was said
 */
export async function awsSignature(
  credential: InjectedCredential,
  call: AwsCall,
  nowMs: number,
): Promise<Record<string, string>> {
  const { scope, origin, method, path, parameters, body } = call;
  // What proxies and libraries may change on the way is not signed.
  const headers = Object.fromEntries(
    Object.entries(call.headers).filter(([name]) => name.startsWith("x-amz-") || /^content-(?:type|md5)$/.test(name)),
  );
  const isWhole = body === undefined || typeof body === "string" || body instanceof Uint8Array;
  const signed = await credential.use((keys) =>
    signedAwsHeaders({
      ...scope,
      keys: {
        accessKeyId: String(keys["access_key_id"]),
        secretAccessKey: String(keys["secret_access_key"]),
        sessionToken: String(keys["session_token"]),
      },
      url: new URL(`${origin}${path}`),
      method,
      query: parameters as Readonly<Record<string, string | readonly string[]>>,
      headers,
      body: isWhole ? body : { unsigned: true },
      atMs: nowMs,
    }),
  );
  const { host: _ours, ...others } = signed;
  return others;
}
