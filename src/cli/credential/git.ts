import type { Vended } from "../../sdk/client/vend.ts";
import { CliFailure, EXIT } from "../exit-code.ts";
import { optionalMember, userAndSecret } from "./members.ts";

/** What git asks a credential helper for. */
export interface AskedByGit {
  readonly protocol: string | undefined;
  /** With a port where the URL has one. */
  readonly host: string | undefined;
}

/** Whether a host, with or without a port, is this machine: what is sent to it nobody else reads. */
export function isLoopback(host: string): boolean {
  return /^(?:127\.0\.0\.1|localhost)(?::\d+)?$/.test(host);
}

/** Reads `key=value` lines (git-credential(1), "INPUT/OUTPUT FORMAT"). */
export function askedOfGit(input: string): AskedByGit {
  const entries = new Map(
    input
      .split("\n")
      .filter((text) => text.includes("="))
      .map((text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)]),
  );
  return { protocol: entries.get("protocol"), host: entries.get("host") };
}

/**
 * User name and password for git, or nothing: what is for one host is shown to no other, whatever URL a submodule names.
 *
 * @param said the host that the command line names, for kinds that do not know their own
 * @throws {CliFailure} wrong usage: nobody knows the host
 */
export function gitAnswer(vended: Vended, { host }: AskedByGit, said: string | undefined): string {
  const own = optionalMember(vended, "git_host") ?? said;
  if (own === undefined)
    throw new CliFailure("say which host this credential is for: --host HOST", { exitCode: EXIT.wrongUsage });
  if (host?.toLowerCase() !== own.toLowerCase()) return "";
  const { Username, Secret } = userAndSecret(vended);
  if (/[\r\n\0]/.test(Username + Secret)) return "";
  const until = Math.floor(Date.parse(vended.expires_at) / 1_000);
  return `username=${Username}\npassword=${Secret}\npassword_expiry_utc=${until}\n`;
}
