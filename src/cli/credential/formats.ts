import { isRecord } from "../../sdk/client/wire.ts";
import type { Vended } from "../../sdk/client/vend.ts";
import { CliFailure, EXIT } from "../exit-code.ts";
import { dockerAnswer } from "./docker.ts";
import { asVariables, exportLines } from "./environment.ts";
import type { Format } from "./format-names.ts";
import { askedOfGit, gitAnswer, isLoopback, type AskedByGit } from "./git.ts";
import { member, optionalMember, userAndSecret } from "./members.ts";

/** What a helper is called with. */
export interface Call {
  readonly resource: string;
  readonly format: Format;
  /** `get`, `store`, `erase` or `list` for git and docker; they add it to the command line. */
  readonly operation: string;
  /** What the tool wrote on standard input, where its protocol does; else empty. */
  readonly input: string;
  /** `KUBERNETES_EXEC_INFO`. */
  readonly execInfo: string | undefined;
  /** The host that the credential is for, where its kind does not know. */
  readonly host: string | undefined;
}

/** Which kinds a format is for. */
const KINDS: Readonly<Record<Format, readonly string[] | undefined>> = {
  aws: ["aws"],
  env: undefined,
  json: undefined,
  git: ["github_app", "static", "oauth"],
  kubectl: ["oauth", "static"],
  docker: ["github_app", "static", "oauth"],
  psql: ["postgres"],
};

/** Formats whose tool writes something on standard input first. */
export function readsInput(format: Format): boolean {
  return format === "git" || format === "docker";
}

/**
 * What is answered without a credential: a helper that is told to store or forget one does nothing, for it keeps none, and
 * one that is asked for something else than it has stays silent, so that the tool asks the next. Undefined: it needs one.
 */
export function answerWithout({ format, operation, input }: Call): string | undefined {
  if (format !== "git" && format !== "docker") return undefined;
  if (operation === "list") return format === "docker" ? "{}\n" : "";
  if (operation !== "get") return "";
  if (format === "git" && !isPrivate(askedOfGit(input))) return "";
  return undefined;
}

/** Whether git would send what it gets where nobody else reads it. */
function isPrivate({ protocol, host }: AskedByGit): boolean {
  return protocol === "https" || (protocol === "http" && isLoopback(host ?? ""));
}

/**
 * The credential as the tool reads it.
 *
 * @throws {CliFailure} wrong usage: a format that is not for this kind
 */
export function written(vended: Vended, call: Call): string {
  const kinds = KINDS[call.format];
  if (kinds !== undefined && !kinds.includes(vended.kind))
    throw new CliFailure(`--format ${call.format} is for ${kinds.join(", ")}; ${call.resource} is ${vended.kind}`, {
      exitCode: EXIT.wrongUsage,
    });
  switch (call.format) {
    case "aws":
      return line(awsProcess(vended));
    case "env":
      return exportLines(asVariables(vended, call.resource)).join("\n") + "\n";
    case "json":
      return line(vended);
    case "git":
      return gitAnswer(vended, askedOfGit(call.input), call.host);
    case "kubectl":
      return line(execCredential(vended, call.execInfo));
    case "docker":
      return line(dockerAnswer(vended, call.input, call.host));
    case "psql":
      return serviceFile(vended, call.resource);
  }
}

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}

/** The answer of `credential_process`, and the form of the container endpoint but for its names. */
function awsProcess(vended: Vended): object {
  return {
    Version: 1,
    AccessKeyId: member(vended, "access_key_id"),
    SecretAccessKey: member(vended, "secret_access_key"),
    SessionToken: member(vended, "session_token"),
    Expiration: member(vended, "expiration"),
  };
}

/** The answer of AWS's container credentials endpoint. */
export function awsContainerAnswer(vended: Vended): object {
  return {
    AccessKeyId: member(vended, "access_key_id"),
    SecretAccessKey: member(vended, "secret_access_key"),
    Token: member(vended, "session_token"),
    Expiration: member(vended, "expiration"),
  };
}

/** @see https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins */
function execCredential(vended: Vended, execInfo: string | undefined): object {
  return {
    apiVersion: askedApiVersion(execInfo),
    kind: "ExecCredential",
    status: { expirationTimestamp: vended.expires_at, token: userAndSecret(vended).Secret },
  };
}

function askedApiVersion(execInfo: string | undefined): string {
  const wanted = "client.authentication.k8s.io/v1";
  try {
    const info: unknown = JSON.parse(execInfo ?? "");
    return isRecord(info) && info["apiVersion"] === `${wanted}beta1` ? `${wanted}beta1` : wanted;
  } catch {
    return wanted;
  }
}

/** Characters that would end a value or begin another line. */
const UNSERVICEABLE = /[\r\n\0]/;

/**
 * A section of libpq's service file, which may be a pipe: `PGSERVICEFILE=<(ephor credential orders-db --format psql) psql
 * service=orders-db`. So the password is in no argument, no variable and no file.
 */
function serviceFile(vended: Vended, resource: string): string {
  const sslmode = optionalMember(vended, "sslmode");
  const entries = {
    host: member(vended, "host"),
    port: member(vended, "port"),
    dbname: member(vended, "database"),
    user: member(vended, "username"),
    password: member(vended, "password"),
    ...(sslmode !== undefined && { sslmode }),
  };
  for (const value of Object.values(entries))
    if (UNSERVICEABLE.test(value)) throw new CliFailure("the credential has a line break in it; --format json");
  const lines = Object.entries(entries).map(([name, value]) => `${name}=${value}`);
  return `[${resource}]\n${lines.join("\n")}\n`;
}
