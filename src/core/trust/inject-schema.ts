import { z } from "zod";
import { TRUST_LIMITS } from "./limits.ts";
import { textValue } from "./values.ts";

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

/** What is put into every request to an HTTP upstream. */
export const injectValue = z.strictObject({ header: headerName, value: templateValue });

/** What an MCP server gets: a header with every request, or, where Ephor starts it, a variable. */
export const mcpInjectValue = z.strictObject({
  header: headerName.optional(),
  env: variableName.optional(),
  value: templateValue,
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

/** What fits only an MCP server that is reached over HTTP, or only one that Ephor starts. */
export function checkMcpSettings(
  wire: {
    readonly mcp: string | object;
    readonly inject?: z.infer<typeof mcpInjectValue> | undefined;
    readonly forward?: unknown;
    readonly internal?: unknown;
  },
  problem: (at: { path: string[]; message: string; mend: string }) => void,
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
    : "write inject: {header: NAME, value: 'Bearer {secret:NAME}'}";
  if (inject[other] !== undefined) {
    const message = isLocal ? "cannot be sent to a program" : "cannot be given to a server that Ephor does not start";
    problem({ path: ["inject", other], message, mend });
  } else if (inject[wanted] === undefined) problem({ path: ["inject", wanted], message: "is missing", mend });
}
