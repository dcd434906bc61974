import { readIssuer } from "../../sdk/client/api.ts";
import { exchange, handOver, type Exchanged, type ExchangeOrder, type TypedToken } from "../../sdk/client/exchange.ts";
import { ApiError } from "../../sdk/client/errors.ts";
import { readTokenFile } from "../../sdk/client/platform-token.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { readBehalf } from "../behalf.ts";
import { createProver, type ProofOptions } from "../proof.ts";

/** What `ephor exchange` is told. */
export interface ExchangeOptions extends ProofOptions {
  readonly resource?: string;
  /** Another agent, to hand the work to. */
  readonly to?: string;
  readonly scope: readonly string[];
  readonly purpose?: string;
  readonly ttl?: string;
  readonly subjectTokenFile?: string;
  readonly subjectTokenType: string;
  readonly onBehalfOf?: string;
  readonly task?: string;
  readonly traceparent?: string;
}

const SUBJECT_TYPES: Readonly<Record<string, TypedToken["type"]>> = {
  jwt: "jwt",
  id_token: "idToken",
  access_token: "accessToken",
};
/** Longest purpose, in characters, as the server has it. */
const MAX_PURPOSE = 200;

/** `ephor exchange`: this workload's token, and perhaps somebody's behalf, for an access token of less than a minute. */
export async function exchangeVerb(context: CliContext, options: ExchangeOptions): Promise<ExitCode> {
  const ttlSeconds = readTtl(options.ttl);
  checkUsage(options);
  const proveOnce = createProver(context, options, (source) => {
    if (!context.isJson && context.io.isTalkTerminal) context.say(`using the workload token of ${source}`);
  });
  const subject = await readSubject(context, options);
  const order: Omit<ExchangeOrder, "target"> = {
    proof: await proveOnce(),
    subject,
    scopes: options.scope,
    purpose: options.purpose,
    ttlSeconds,
    traceparent: options.traceparent,
  };
  let answer: Exchanged;
  try {
    const { url } = context.settings;
    answer =
      options.to === undefined
        ? await exchange(url, { ...order, target: options.resource ?? "" })
        : await handOver(url, { ...order, issuer: await readIssuer(url), to: options.to });
  } catch (error) {
    throw asUnauthenticated(error);
  }
  if (context.isJson) context.printJson(answer);
  else context.print(answer.access_token);
  return EXIT.done;
}

function usage(message: string): CliFailure {
  return new CliFailure(message, { exitCode: EXIT.wrongUsage });
}

function checkUsage(options: ExchangeOptions): void {
  if ((options.resource === undefined) === (options.to === undefined))
    throw usage("name one target: --resource, or --to AGENT");
  const subjects = [options.subjectTokenFile, options.onBehalfOf, options.task].filter((one) => one !== undefined);
  if (subjects.length > 1) throw usage("--subject-token-file, --on-behalf-of and --task exclude each other");
  if (!Object.hasOwn(SUBJECT_TYPES, options.subjectTokenType))
    throw usage("--subject-token-type: write jwt, id_token or access_token");
  if (options.purpose !== undefined && [...options.purpose].length > MAX_PURPOSE)
    throw usage(`--purpose: at most ${MAX_PURPOSE} characters`);
}

function readTtl(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^\d{1,2}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > 59) throw usage("--ttl: whole seconds, 1 to 59; no token lives a minute");
  return seconds;
}

async function readSubject(context: CliContext, options: ExchangeOptions): Promise<TypedToken | undefined> {
  if (options.task !== undefined) return { token: options.task, type: "task" };
  if (options.onBehalfOf !== undefined) return await readBehalf(context, options.onBehalfOf, typeOf(options));
  if (options.subjectTokenFile === undefined) return undefined;
  return { token: await readTokenFile(options.subjectTokenFile), type: typeOf(options) };
}

function typeOf(options: ExchangeOptions): TypedToken["type"] {
  return SUBJECT_TYPES[options.subjectTokenType] ?? "jwt";
}

/** At `/token` a bad, expired or killed subject or actor is `invalid_request` (RFC 8693 §2.2.2); our form itself is right. */
function asUnauthenticated(error: unknown): unknown {
  if (!(error instanceof ApiError) || error.code !== "invalid_request") return error;
  return new CliFailure(`refused: ${error.message} The server's audit says which (ephor audit --decision refused).`, {
    exitCode: EXIT.unauthenticated,
    cause: error,
  });
}
