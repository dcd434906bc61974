import type { Vended } from "../../sdk/client/vend.ts";
import { CliFailure, EXIT } from "../exit-code.ts";
import { member, optionalMember } from "./members.ts";

/**
 * A credential as the environment variables that tools of its kind read.
 *
 * @param resource its name, for kinds that have no names of their own
 * @throws {CliFailure} wrong usage: the kind has no form as variables
 */
export function asVariables(vended: Vended, resource: string): Readonly<Record<string, string>> {
  const get = (name: string): string => member(vended, name);
  const own = resource.toUpperCase().replaceAll("-", "_");
  switch (vended.kind) {
    case "aws":
      return {
        AWS_ACCESS_KEY_ID: get("access_key_id"),
        AWS_SECRET_ACCESS_KEY: get("secret_access_key"),
        AWS_SESSION_TOKEN: get("session_token"),
        AWS_CREDENTIAL_EXPIRATION: get("expiration"),
        AWS_REGION: get("region"),
        AWS_DEFAULT_REGION: get("region"),
      };
    case "github_app":
      return { GITHUB_TOKEN: get("token"), GH_TOKEN: get("token") };
    case "postgres": {
      const sslmode = optionalMember(vended, "sslmode");
      return {
        PGHOST: get("host"),
        PGPORT: get("port"),
        PGDATABASE: get("database"),
        PGUSER: get("username"),
        PGPASSWORD: get("password"),
        ...(sslmode !== undefined && { PGSSLMODE: sslmode }),
      };
    }
    case "oauth":
      return { [`${own}_ACCESS_TOKEN`]: get("access_token") };
    case "static": {
      const username = optionalMember(vended, "username");
      return { [own]: get("value"), ...(username !== undefined && { [`${own}_USERNAME`]: username }) };
    }
    default:
      throw new CliFailure(`a credential of kind ${vended.kind} has no form as environment variables; --format json`, {
        exitCode: EXIT.wrongUsage,
      });
  }
}

/** Lines for a POSIX shell's `eval`. */
export function exportLines(variables: Readonly<Record<string, string>>): string[] {
  return Object.entries(variables).map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'`);
}
