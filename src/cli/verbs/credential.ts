import { vend, type Vended } from "../../sdk/client/vend.ts";
import { readBehalf } from "../behalf.ts";
import type { CliContext } from "../context.ts";
import type { Format } from "../credential/format-names.ts";
import { answerWithout, readsInput, written, type Call } from "../credential/formats.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { askDoor } from "../job/ask-door.ts";
import { HANDLE_VARIABLE } from "../job/outfit.ts";
import { createProver, type ProofOptions } from "../proof.ts";

/** What `ephor credential` is told. */
export interface CredentialOptions extends ProofOptions {
  readonly format: Format;
  readonly host?: string;
  readonly purpose?: string;
  readonly task?: string;
  readonly onBehalfOf?: string;
}

/** Longest text that a tool writes to its helper, in bytes. */
const MAX_INPUT_BYTES = 65_536;

/**
 * `ephor credential NAME --format F`: a credential as the tool reads it that calls this as its helper. Inside `ephor run` its
 * task and its lease are used; elsewhere the workload proves itself, as for `ephor exchange`.
 *
 * @param operation what git and docker add: get, store, erase, list
 */
export async function credential(
  context: CliContext,
  o: { resource: string; operation: string; options: CredentialOptions },
): Promise<ExitCode> {
  const { resource, operation, options } = o;
  const { env } = context.settings;
  const call: Call = {
    resource,
    format: options.format,
    operation,
    input: readsInput(options.format) ? await context.io.input.read(MAX_INPUT_BYTES) : "",
    execInfo: env["KUBERNETES_EXEC_INFO"],
    host: options.host,
  };
  const without = answerWithout(call);
  context.io.out(without ?? written(await obtain(context, resource, options), call));
  return EXIT.done;
}

async function obtain(context: CliContext, resource: string, options: CredentialOptions): Promise<Vended> {
  const { env, url } = context.settings;
  const handle = env[HANDLE_VARIABLE];
  if (handle !== undefined) return await askDoor(handle, resource);
  if (options.task !== undefined && options.onBehalfOf !== undefined)
    throw new CliFailure("--task and --on-behalf-of exclude each other", { exitCode: EXIT.wrongUsage });
  const subject =
    options.task !== undefined
      ? ({ token: options.task, type: "task" } as const)
      : options.onBehalfOf === undefined
        ? undefined
        : await readBehalf(context, options.onBehalfOf, "idToken");
  return await vend(url, {
    resource,
    proof: await createProver(context, options)(),
    subject,
    purpose: options.purpose,
  });
}
