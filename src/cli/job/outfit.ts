import { asVariables } from "../credential/environment.ts";
import { member, optionalMember } from "../credential/members.ts";
import { isLoopback } from "../credential/git.ts";
import { withGitConfig, type Given } from "./environment.ts";
import type { Handles } from "./handles.ts";
import type { PostgresDoor } from "./postgres-door.ts";

/** By which the command's own `ephor credential` finds the doors; names a file, holds nothing. */
export const HANDLE_VARIABLE = "EPHOR_RUN_HANDLE";

/** What the doors are called. */
export interface Doors {
  /** Of the HTTP door. */
  readonly origin: string;
  readonly handles: Handles;
  readonly postgres: ReadonlyMap<string, PostgresDoor>;
  /** How this program is called, as words: an interpreter and a file. */
  readonly program: readonly string[];
}

/**
 * Gives the command what its tools look for: handles, which work on this machine, for this user, while the command runs. The
 * first credential of a kind is what tools of that kind use unasked; others are profiles and services by their names.
 */
export async function outfit(env: Record<string, string>, given: readonly Given[], doors: Doors): Promise<void> {
  const of = (kind: string): Given[] => given.filter((one) => one.vended.kind === kind);
  env[HANDLE_VARIABLE] = await doors.handles.write(
    "handle",
    JSON.stringify({ origin: doors.origin, token_file: doors.handles.tokenFile }),
  );
  await forAws(env, of("aws"), doors);
  forGit(env, of("github_app"), doors.program);
  await forPostgres(env, of("postgres"), doors);
}

/** With `--env`: the values themselves, for tools that can do no better. They die with the lease, and nobody renews them. */
export function plainValues(env: Record<string, string>, given: readonly Given[]): void {
  for (const { resource, vended } of given) Object.assign(env, asVariables(vended, resource));
}

/** SDKs ask the container endpoint; `--profile NAME` asks this program (older ones know no token in a file). */
async function forAws(env: Record<string, string>, given: readonly Given[], doors: Doors): Promise<void> {
  const [first] = given;
  if (first === undefined) return;
  env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = `${doors.origin}/aws/${first.resource}`;
  env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = doors.handles.tokenFile;
  env["AWS_REGION"] = member(first.vended, "region");
  env["AWS_DEFAULT_REGION"] = member(first.vended, "region");
  // Instance roles and files in the home folder are standing credentials too.
  env["AWS_EC2_METADATA_DISABLED"] = "true";
  env["AWS_SHARED_CREDENTIALS_FILE"] = await doors.handles.write("aws-credentials", "");
  env["AWS_CONFIG_FILE"] = await doors.handles.write(
    "aws-config",
    given
      .map(
        ({ resource, vended }) =>
          `[profile ${resource}]\nregion = ${member(vended, "region")}\n` +
          `credential_process = ${commandLine(doors.program, resource, "aws")}\n`,
      )
      .join("\n"),
  );
}

function forGit(env: Record<string, string>, given: readonly Given[], program: readonly string[]): void {
  const entries = given.flatMap(({ resource, vended }) => {
    const host = member(vended, "git_host");
    const schemes = isLoopback(host) ? ["https", "http"] : ["https"];
    return schemes.flatMap((scheme) => {
      const key = `credential.${scheme}://${host}.helper`;
      // An empty value takes out the helpers before it, and with them the credentials that they keep.
      return [[key, ""] as const, [key, `!${commandLine(program, resource, "git")}`] as const];
    });
  });
  withGitConfig(env, entries);
}

async function forPostgres(env: Record<string, string>, given: readonly Given[], doors: Doors): Promise<void> {
  const services = given.flatMap(({ resource, vended }) => {
    const door = doors.postgres.get(resource);
    return door === undefined ? [] : [{ resource, door, database: member(vended, "database") }];
  });
  const [first] = services;
  if (first === undefined) return;
  env["PGHOST"] = first.door.host;
  env["PGPORT"] = String(first.door.port);
  env["PGDATABASE"] = first.database;
  // The door says who it is; this only keeps tools from showing the name of the system's user.
  env["PGUSER"] = optionalMember((given[0] as Given).vended, "username") ?? "ephor";
  env["PGPASSFILE"] = await doors.handles.write("pgpass", "");
  env["PGSERVICEFILE"] = await doors.handles.write(
    "pg-services",
    services
      .map(
        ({ resource, door, database }) => `[${resource}]\nhost=${door.host}\nport=${door.port}\ndbname=${database}\n`,
      )
      .join("\n"),
  );
}

/** For a shell, which git and AWS's tools hand it to. */
function commandLine(program: readonly string[], resource: string, format: string): string {
  return [...program, "credential", resource, "--format", format].map(shellWord).join(" ");
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
