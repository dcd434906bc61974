import { NoOperatorKeyError } from "../config/cli.ts";
import { ConfigError } from "../config/error.ts";
import { ApiError, ConnectionError, type ApiErrorEntry } from "../sdk/client/errors.ts";
import { PlatformTokenError } from "../sdk/client/platform-token.ts";
import { CliFailure, EXIT, type ExitCode } from "./exit-code.ts";

/** OAuth and problem codes that say: not with these rights. */
const DENIED = new Set([
  "access_denied",
  "insufficient_scope",
  "invalid_scope",
  "invalid_target",
  "unauthorized_client",
]);
const UNAUTHENTICATED = new Set([
  "invalid_client",
  "invalid_token",
  "invalid_grant",
  "invalid_dpop_proof",
  "use_dpop_nonce",
]);

/** How a command that threw ends. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CliFailure) return error.exitCode;
  if (error instanceof NoOperatorKeyError) return EXIT.unauthenticated;
  if (error instanceof ConfigError) return EXIT.wrongUsage;
  if (error instanceof PlatformTokenError) return EXIT.unauthenticated;
  if (!(error instanceof ApiError)) return EXIT.failed;
  if (error.code === "authorization_pending") return EXIT.approvalNeeded;
  if (DENIED.has(error.code) || error.status === 403) return EXIT.denied;
  if (UNAUTHENTICATED.has(error.code) || error.status === 401) return EXIT.unauthenticated;
  return EXIT.failed;
}

/**
 * What to tell the person, line by line.
 *
 * @param url the server's, for what could not be reached
 */
export function explain(error: unknown, url: string | undefined): string[] {
  if (error instanceof ConfigError) return error.message.split("\n");
  if (error instanceof ApiError) return explainRefusal(error);
  if (error instanceof ConnectionError) return [explainConnection(error, url ?? "the server")];
  if (error instanceof Error && (error instanceof CliFailure || error instanceof PlatformTokenError))
    return [error.message];
  // Anything else is a mistake of ours, or a fault of this machine; its name and code tell which, its text may hold values.
  const { name, code } = error as { name?: unknown; code?: unknown };
  return [`failed: ${typeof name === "string" ? name : "unknown"}${typeof code === "string" ? ` (${code})` : ""}`];
}

function explainRefusal(error: ApiError): string[] {
  if (error.code.startsWith("http_5"))
    return [`the server is not ready (${error.status}): it starts, stops, or is away behind a proxy; try again`];
  const hint = error.code === "invalid_token" ? " Is the operator key the one of this server?" : "";
  const request = error.requestId === undefined ? "" : ` [request ${error.requestId}]`;
  return [`refused: ${error.message}${hint}${request}`, ...error.entries.map((entry) => `  ${placed(entry)}`)];
}

/** One problem of a file: line, where, what, and how to mend it. */
export function placed(entry: ApiErrorEntry, file?: string): string {
  const position = [file, entry.line].filter((part) => part !== undefined).join(":");
  const where = [entry.line === undefined || file !== undefined ? position : `line ${position}`, entry.path]
    .filter((part) => part !== "")
    .join(" ");
  return `${where === "" ? "" : `${where}: `}${entry.detail}${entry.mend === undefined ? "" : ` – ${entry.mend}`}`;
}

function explainConnection({ fault }: ConnectionError, url: string): string {
  switch (fault) {
    case "unreachable":
      return `nothing answers at ${url}; start one with \`ephor serve\`, or set EPHOR_URL`;
    case "interrupted":
      return `the connection to ${url} broke before the answer was there; what was asked for may have happened`;
    case "timeout":
      return `${url} did not answer in time; what was asked for may have happened`;
    case "not_ephor":
      return `what answers at ${url} is no Ephor; look at EPHOR_URL`;
  }
}
