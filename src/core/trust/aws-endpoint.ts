/** For which service and region a request to AWS is signed. */
export interface AwsScope {
  /** The signing name, which is not always how the endpoint is called. */
  readonly service: string;
  readonly region: string;
}

/** A region of AWS, like `eu-west-1`. */
export const AWS_REGION = /^[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}$/;
/** A signing name, like `dynamodb`. */
export const AWS_SERVICE = /^[a-z][a-z0-9-]{1,62}$/;

/** Endpoints whose requests are signed for a service of another name. */
const SIGNED_AS: Readonly<Record<string, string>> = {
  "bedrock-agent": "bedrock",
  "bedrock-agent-runtime": "bedrock",
  "bedrock-runtime": "bedrock",
  email: "ses",
};

/** Services with one endpoint for all regions of the commercial partition, signed for its first. */
const GLOBAL: ReadonlySet<string> = new Set(["cloudfront", "iam", "organizations", "route53", "sts"]);

/**
 * The scope that the host name in the URL of a public endpoint of AWS tells, or undefined where it does not: then the resource has to
 * say. Known are `service.region.amazonaws.com` and its FIPS, dual-stack and Chinese forms, S3's with a bucket in front, API
 * Gateway, OpenSearch and the URLs of functions.
 *
 * @see AWS General Reference, "Service endpoints"
 */
export function awsScopeOf(url: string): AwsScope | undefined {
  const [, inner = "", suffix = ""] =
    /^([a-z0-9.-]+)\.(amazonaws\.com|amazonaws\.com\.cn|api\.aws|on\.aws)$/.exec(hostOf(url)) ?? [];
  const labels = inner.split(".").filter((label) => label !== "dualstack");
  const [last = "", before = "", third] = labels.toReversed();
  if (suffix === "on.aws") return before === "lambda-url" ? scope("lambda", last) : undefined;
  if (labels.length === 1) return suffix === "amazonaws.com" && GLOBAL.has(last) ? scope(last, "us-east-1") : undefined;
  if ((last === "es" || last === "aoss") && third !== undefined) return scope(last, before);
  const service = before.replace(/-fips$/, "");
  // What stands before these names a bucket or an API.
  if (third !== undefined && service !== "s3" && service !== "execute-api") return undefined;
  return scope(SIGNED_AS[service] ?? service, last);
}

function hostOf(url: string): string {
  try {
    return new URL(url).hostname.toLowerCase();
  } catch {
    return "";
  }
}

function scope(service: string, region: string): AwsScope | undefined {
  return AWS_SERVICE.test(service) && AWS_REGION.test(region) ? { service, region } : undefined;
}

/** Headers by which a request to AWS says who signed it, when, and over what: only whoever signs may write them. */
export function isAwsSigningHeader(name: string): boolean {
  return /^(?:date|x-amz-(?:algorithm|content-sha256|credential|date|decoded-content-length|expires|region-set|s3session-token|security-token|signature|signedheaders|trailer))$/i.test(
    name,
  );
}
