import type { Proof } from "../sdk/client/exchange.ts";
import { findPlatformToken } from "../sdk/client/platform-token.ts";
import type { CliContext } from "./context.ts";
import { CliFailure, EXIT } from "./exit-code.ts";

/** How a command line says by what the agent proves itself. */
export interface ProofOptions {
  /** The workload's token; default: where the platform puts it. */
  readonly tokenFile?: string;
  /** An agent with a key of its own on this machine. */
  readonly as?: string;
  /** Audience of the workload's token or issuer of the server; default: the server's URL, or what it says. */
  readonly audience?: string;
}

/** Proves the agent, anew each time: platform tokens are renewed in place, and an assertion works once. */
export type Prover = () => Promise<Proof>;

/**
 * @param onSource told where the workload's token was found, once
 * @throws {CliFailure} wrong usage
 */
export function createProver(
  context: CliContext,
  options: ProofOptions,
  onSource: (source: string) => void = () => {},
): Prover {
  const { as: agent, tokenFile, audience } = options;
  if (agent !== undefined && tokenFile !== undefined)
    throw new CliFailure("--as and --token-file exclude each other", { exitCode: EXIT.wrongUsage });
  if (agent !== undefined) {
    return async () => {
      const { makeAssertion } = await import("./verbs/agent-key.ts");
      return { clientAssertion: await makeAssertion(context, agent, audience) };
    };
  }
  let isTold = false;
  return async () => {
    const { env, url } = context.settings;
    const found = await findPlatformToken({ env, audience: audience ?? url, file: tokenFile });
    if (!isTold) onSource(found.source);
    isTold = true;
    return { workloadToken: found.token };
  };
}
