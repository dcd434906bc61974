import { signedAwsHeaders } from "../../system/aws-signature.ts";
import type { Egress, EgressResponse } from "../../system/egress.ts";
import { ProviderError } from "../provider-error.ts";
import { problemOfStatus, sendUpstream } from "../upstream-request.ts";
import { errorOfCode } from "./aws-error.ts";
import type { AwsKeys } from "./aws-sts.ts";

/** Where a service of AWS is asked. */
export interface AwsQueryTarget {
  readonly service: "iam" | "sts";
  readonly region: string;
  readonly url: string;
  /** An operator named it: it may be a private address. */
  readonly internal: boolean;
}

/** An answer of 200. */
export interface AwsQueryAnswer {
  readonly xml: string;
  /** AWS's own clock, epoch seconds. */
  readonly at: number;
}

/** The versions of the two APIs. */
const VERSIONS = { iam: "2010-05-08", sts: "2011-06-15" } as const;

/**
 * One signed call by AWS's query protocol; never repeated here. Nothing of AWS's text is kept in an error, and of its codes only
 * those known here.
 *
 * @param call.action with its parameters; their values hold no secret
 * @throws {ProviderError} `answer_malformed` also for a 200 that is no answer to this action
 */
export async function askAws(call: {
  readonly egress: Egress;
  readonly target: AwsQueryTarget;
  readonly keys: AwsKeys;
  readonly action: string;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}): Promise<AwsQueryAnswer> {
  const { egress, target, keys, action, parameters = {}, signal } = call;
  const url = new URL(target.url);
  const body = new URLSearchParams({ Action: action, Version: VERSIONS[target.service], ...parameters }).toString();
  const headers = await signedAwsHeaders({
    service: target.service,
    region: target.region,
    keys,
    url,
    headers: { "content-type": "application/x-www-form-urlencoded; charset=utf-8" },
    body,
  });
  // The egress sets its own.
  const { host: _, ...others } = headers;
  const response = await sendUpstream(egress, {
    method: "POST",
    url: url.href,
    headers: { accept: "text/xml", ...others },
    body,
    internal: target.internal,
    signal,
  });
  if (response.status !== 200) throw refusalOf(response);
  const answer = textOf(response);
  const at = Date.parse(String(response.headers["date"] ?? ""));
  if (!answer.includes(`<${action}Response `) || Number.isNaN(at)) throw new ProviderError("answer_malformed");
  return { xml: answer, at: Math.floor(at / 1000) };
}

/**
 * The text of an element that has no attributes and no entities in it, where it is of that form.
 *
 * @throws {ProviderError} `answer_malformed` where it is not there exactly once, or of another form
 */
export function elementOf(xml: string, name: string, form: RegExp): string {
  const [, inside, ...more] = xml.split(`<${name}>`);
  const text = inside?.slice(0, Math.max(0, inside.indexOf(`</${name}>`))) ?? "";
  if (more.length > 0 || !form.test(text)) throw new ProviderError("answer_malformed");
  return text;
}

function refusalOf(response: EgressResponse): ProviderError {
  const [, code = ""] = /<Code>([A-Za-z.]{1,64})<\/Code>/.exec(textOf(response)) ?? [];
  return errorOfCode(code.replace(/Exception$/, "")) ?? problemOfStatus(response.status);
}

function textOf({ body }: EgressResponse): string {
  return Buffer.from(body).toString("utf8");
}
