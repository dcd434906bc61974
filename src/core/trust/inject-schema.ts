import { z } from "zod";
import { AWS_REGION, AWS_SERVICE, awsScopeOf, isAwsSigningHeader } from "./aws-endpoint.ts";
import { TRUST_LIMITS } from "./limits.ts";
import { nameValue, textValue } from "./values.ts";

/** Headers that say how a message is framed or who is asked; injecting one would change the request itself. */
const FRAMING_HEADERS =
  /^(?:host|connection|content-length|content-type|transfer-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*|mcp-.*)$/i;

/** Variables that steer a loader, a shell, a runtime or a tool, or that Ephor sets itself. */
const STEERING_VARIABLES =
  /^(?:PATH|HOME|TMPDIR|TMP|TEMP|LANG|LANGUAGE|LC_.*|IFS|ENV|BASH_.*|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|ZDOTDIR|SHELL|EDITOR|VISUAL|PAGER|BROWSER|LD_.*|DYLD_.*|GLIBC_.*|GCONV_PATH|MALLOC_.*|NODE_.*|NPM_.*|DENO_.*|BUN_.*|PYTHON.*|VIRTUAL_ENV|PERL.*|RUBY.*|GEM_.*|BUNDLE_.*|JAVA_.*|_JAVA_.*|JDK_.*|CLASSPATH|PHP.*|LUA_.*|GO(?:FLAGS|ROOT|PATH|DEBUG|TRACEBACK|MAXPROCS|PROXY)|DOTNET_.*|CORECLR_.*|COMPLUS_.*|OPENSSL_.*|SSL_.*|SSLKEYLOGFILE|REQUESTS_CA_BUNDLE|CURL_.*|GIT_.*|SSH_.*|XDG_.*|(?:HTTPS?|ALL|NO|FTP)_PROXY|EPHOR_.*)$/i;

const headerName = z
  .string()
  .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/, { error: "must be the name of a header" })
  .refine((header) => !FRAMING_HEADERS.test(header), { error: "must not be a header that frames the message" });

const variableName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, { error: "must be the name of an environment variable" })
  .refine((name) => !STEERING_VARIABLES.test(name), {
    error: "must not be a variable that steers the program or its runtime",
  });

const templateValue = z
  .string()
  .max(TRUST_LIMITS.valueCharacters)
  .regex(/^[\x20-\x7e]+$/, { error: "must be printable ASCII" })
  .refine((value) => !/[{}]/.test(value.replaceAll(/\{secret:[a-z0-9][a-z0-9-]{0,62}\}/g, "")), {
    error: "has braces that are not {secret:NAME}",
  });

/**
 * What is put into every request to an HTTP upstream: a header made of secrets, or what a credential resource makes: an access
 * token, or AWS's signature.
 */
export const injectValue = z.strictObject({
  header: headerName.optional(),
  value: templateValue.optional(),
  /** A credential resource of kind `oauth`. */
  oauth: nameValue.optional(),
  /** A credential resource of kind `aws`. */
  aws: nameValue.optional(),
  /** One of its session policies, which narrows what is made. */
  policy: nameValue.optional(),
  service: z
    .string()
    .regex(AWS_SERVICE, { error: "must be the signing name of a service of AWS, like dynamodb" })
    .optional(),
  region: z.string().regex(AWS_REGION, { error: "must be a region of AWS, like eu-west-1" }).optional(),
});

/** What an MCP server gets: a header or an access token with every request, or, where Ephor starts it, a variable. */
export const mcpInjectValue = z.strictObject({
  header: headerName.optional(),
  env: variableName.optional(),
  value: templateValue.optional(),
  oauth: nameValue.optional(),
  policy: nameValue.optional(),
});

/** A program and its arguments. Arguments hold no secret (standards 17.6). */
export const commandValue = z
  .array(
    textValue.refine((text) => !text.includes("{secret:"), {
      error: "must hold no secret: whoever lists the processes of a machine reads it",
      params: { mend: "give it to the program as a variable: inject: {env: NAME, value: '{secret:NAME}'}" },
    }),
  )
  .min(1)
  .max(64);

type Problem = (at: { path: (string | number)[]; message: string; mend: string }) => void;

const HEADER_MEND = "write inject: {header: NAME, value: 'Bearer {secret:NAME}'}";
const MADE_MEND = "write header and value, or the name of one credential resource as aws or oauth";

/** What goes together in the `inject` of an HTTP resource, and what AWS's signature needs. */
export function checkHttpSettings(
  wire: {
    readonly http: string;
    readonly inject?: z.infer<typeof injectValue> | undefined;
    readonly forward?: readonly string[] | undefined;
  },
  problem: Problem,
): void {
  const { http, inject, forward = [] } = wire;
  if (inject === undefined) return;
  const { aws, service, region } = inject;
  checkSources(inject, ["header", "value"], problem);
  if (aws === undefined) {
    for (const key of ["service", "region"] as const)
      if (inject[key] !== undefined)
        problem({ path: ["inject", key], message: "means nothing without aws", mend: "take it out" });
    return;
  }
  const told = awsScopeOf(http);
  for (const [key, given] of [
    ["service", service],
    ["region", region],
  ] as const)
    if (given === undefined && told === undefined)
      problem({
        path: ["inject", key],
        message: "is missing, and the host name does not tell it",
        mend: "write the service and the region that requests are signed for, like service: dynamodb, region: eu-west-1",
      });
  for (const [at, name] of forward.entries())
    if (isAwsSigningHeader(name))
      problem({
        path: ["forward", at],
        message: "must not be a header of the signature, which Ephor makes",
        mend: "take it out",
      });
}

/** One source: a header's own members, or one credential resource. */
function checkSources(
  inject: z.infer<typeof injectValue> & z.infer<typeof mcpInjectValue>,
  own: readonly ("header" | "env" | "value")[],
  problem: Problem,
): void {
  const made = (["aws", "oauth"] as const).filter((key) => inject[key] !== undefined);
  if (made.length === 0) {
    for (const key of own)
      if (inject[key] === undefined) problem({ path: ["inject", key], message: "is missing", mend: HEADER_MEND });
    if (inject.policy !== undefined)
      problem({ path: ["inject", "policy"], message: "means nothing without aws or oauth", mend: "take it out" });
    return;
  }
  const others = [
    ...made.slice(1),
    ...(["header", "env", "value"] as const).filter((key) => inject[key] !== undefined),
  ];
  for (const key of others) problem({ path: ["inject", key], message: `does not go with ${made[0]}`, mend: MADE_MEND });
}

/** What fits only an MCP server that is reached over HTTP, or only one that Ephor starts. */
export function checkMcpSettings(
  wire: {
    readonly mcp: string | object;
    readonly inject?: z.infer<typeof mcpInjectValue> | undefined;
    readonly forward?: unknown;
    readonly internal?: unknown;
  },
  problem: Problem,
): void {
  const { mcp, inject } = wire;
  const isLocal = typeof mcp === "object";
  if (isLocal) {
    for (const name of ["forward", "internal"] as const)
      if (wire[name] !== undefined)
        problem({ path: [name], message: "means nothing where Ephor starts the server", mend: "take it out" });
  }
  if (inject === undefined) return;
  const [wanted, other] = isLocal ? (["env", "header"] as const) : (["header", "env"] as const);
  const mend = isLocal
    ? "write inject: {env: NAME, value: '{secret:NAME}'}, which is in the program's environment"
    : HEADER_MEND;
  if (inject.oauth !== undefined && isLocal)
    problem({ path: ["inject", "oauth"], message: "is sent with requests, and a program gets none", mend });
  else if (inject.oauth !== undefined || inject.policy !== undefined) checkSources(inject, [], problem);
  else if (inject[other] !== undefined) {
    const message = isLocal ? "cannot be sent to a program" : "cannot be given to a server that Ephor does not start";
    problem({ path: ["inject", other], message, mend });
  } else {
    for (const key of [wanted, "value"] as const)
      if (inject[key] === undefined) problem({ path: ["inject", key], message: "is missing", mend });
  }
}
