import type { Vended } from "../../sdk/client/vend.ts";
import { CliFailure, EXIT } from "../exit-code.ts";
import { userAndSecret } from "./members.ts";

/** Where GitHub tokens are taken as a registry's password. */
const GITHUB_REGISTRY = "ghcr.io";

/**
 * The answer of a Docker credential helper to `get`.
 *
 * @param input the registry, as Docker writes it
 * @param said the registry that the command line names, for kinds that do not know their own
 * @throws {CliFailure} nobody knows the registry, or it is another one; the message is the one that Docker knows
 * @see https://github.com/docker/docker-credential-helpers, "Development"
 */
export function dockerAnswer(vended: Vended, input: string, said: string | undefined): object {
  const asked = input.trim();
  const own = said ?? (vended.kind === "github_app" ? GITHUB_REGISTRY : undefined);
  if (own === undefined)
    throw new CliFailure("say which registry this credential is for: --host HOST", { exitCode: EXIT.wrongUsage });
  if (hostOf(asked) !== own.toLowerCase()) throw new CliFailure("credentials not found in native keychain");
  return { ServerURL: asked, ...userAndSecret(vended) };
}

/** `registry.example:5000` or a URL. */
function hostOf(registry: string): string {
  const text = registry.includes("://") ? registry : `https://${registry}`;
  return URL.canParse(text) ? new URL(text).host.toLowerCase() : "";
}
