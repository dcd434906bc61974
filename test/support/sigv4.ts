import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";

/** What AWS answers to a request that it does not believe. */
export class SigV4Refusal extends Error {
  readonly code: string;

  constructor(code: string, message = code) {
    super(message);
    this.code = code;
  }
}

export interface SigV4Keys {
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** Minutes that a signature's time may be off. */
const TOLERANCE_MS = 5 * 60 * 1000;

/**
 * Verifies a request signed in its headers by Signature Version 4, by computing the signature anew from what arrived.
 *
 * @returns the access key id that signed
 * @throws {SigV4Refusal} with the code that AWS would answer
 * @see IAM User Guide, "Create a signed AWS API request"
 */
export function verifySigV4(
  request: IncomingMessage,
  body: Buffer,
  o: { nowMs: number; region: string; service: string; keysOf: (accessKeyId: string) => SigV4Keys | undefined },
): string {
  const header = /^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/.exec(
    request.headers.authorization ?? "",
  );
  const date = String(request.headers["x-amz-date"] ?? "");
  const stamp = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/.exec(date);
  if (!request.headers.authorization) throw new SigV4Refusal("MissingAuthenticationToken");
  if (!header || !stamp) throw new SigV4Refusal("IncompleteSignature");
  const [, credential = "", signedHeaders = "", signature = ""] = header;
  const [accessKeyId = "", day, region, service, ending] = credential.split("/");
  if (day !== date.slice(0, 8) || ending !== "aws4_request") throw new SigV4Refusal("IncompleteSignature", "scope");
  if (region !== o.region || service !== o.service) throw new SigV4Refusal("SignatureDoesNotMatch", "scope");
  const signedAt = Date.parse(date.replace(/^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})/, "$1-$2-$3T$4:$5:"));
  if (Math.abs(signedAt - o.nowMs) > TOLERANCE_MS) throw new SigV4Refusal("RequestExpired");

  const names = signedHeaders.split(";");
  const mustBeSigned = ["host", ...Object.keys(request.headers).filter((name) => name.startsWith("x-amz-"))];
  const unsigned = mustBeSigned.find((name) => !names.includes(name) && name !== "x-amz-user-agent");
  if (unsigned !== undefined || names.join() !== names.toSorted().join()) throw new SigV4Refusal("IncompleteSignature");

  const keys = o.keysOf(accessKeyId);
  if (keys === undefined || request.headers["x-amz-security-token"] !== keys.sessionToken)
    throw new SigV4Refusal("InvalidClientTokenId");

  const sentHash = request.headers["x-amz-content-sha256"];
  const isUnsigned = o.service === "s3" && sentHash === "UNSIGNED-PAYLOAD";
  const bodyHash = isUnsigned ? "UNSIGNED-PAYLOAD" : sha256(body);
  if (sentHash !== undefined && sentHash !== bodyHash) throw new SigV4Refusal("SignatureDoesNotMatch", "body");
  if (o.service === "s3" && sentHash === undefined) throw new SigV4Refusal("MissingSecurityHeader");
  const [path = "/", query = ""] = (request.url ?? "/").split("?");
  const canonical = [
    request.method,
    canonicalPath(path, o.service),
    canonicalQuery(query),
    ...names.map(
      (name) =>
        `${name}:${String(request.headers[name] ?? "")
          .trim()
          .replaceAll(/ +/g, " ")}`,
    ),
    "",
    signedHeaders,
    bodyHash,
  ].join("\n");
  const scope = [day, region, service, ending].join("/");
  const toSign = ["AWS4-HMAC-SHA256", date, scope, sha256(canonical)].join("\n");
  let key: Buffer = Buffer.from(`AWS4${keys.secretAccessKey}`);
  for (const part of scope.split("/")) key = createHmac("sha256", key).update(part).digest();
  const expected = createHmac("sha256", key).update(toSign).digest();
  if (!timingSafeEqual(expected, Buffer.from(signature, "hex"))) throw new SigV4Refusal("SignatureDoesNotMatch");
  return accessKeyId;
}

/** As AWS reads a path: decoded, encoded anew, and by all but S3 once more. */
function canonicalPath(path: string, service: string): string {
  const once = path.split("/").map((segment) => encoded(decodeURIComponent(segment)));
  return (service === "s3" ? once : once.map(encoded)).join("/");
}

function canonicalQuery(query: string): string {
  if (query === "") return "";
  const pairs = query.split("&").map((part) => {
    const [name = "", value = ""] = part.split("=");
    return `${encoded(decodeURIComponent(name))}=${encoded(decodeURIComponent(value))}`;
  });
  return pairs.toSorted().join("&");
}

function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha256(data: string | Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}
