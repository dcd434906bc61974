import { mkdir, readFile, rename, stat, unlink, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { CliSettings } from "../config/cli.ts";
import type { TypedToken } from "../sdk/client/exchange.ts";
import { isRecord } from "../sdk/client/wire.ts";
import { CliFailure } from "./exit-code.ts";

/** Mode bits of accounts other than the file's owner. */
const OTHERS = 0o077;

/** Who logged in, as `ephor login` keeps it: one human for each server, in a file that only its owner may read. */
export interface Login {
  /** The server it is for: a token of one Ephor is never sent to another. */
  readonly url: string;
  /** Name of the issuer in the trust file. */
  readonly issuer: string;
  readonly sub: string;
  readonly token: string;
  readonly type: Extract<TypedToken["type"], "idToken" | "accessToken">;
  /** Epoch seconds, as the IdP says. */
  readonly expires_at: number;
}

type Place = Pick<CliSettings, "dataDirectory" | "url">;

/** Where the login for this server lies. */
export function loginPath({ dataDirectory, url }: Place): string {
  return join(dataDirectory, "logins", `${Buffer.from(url).toString("base64url")}.json`);
}

/**
 * Who is logged in at this server, also when that is over; undefined when nobody is.
 *
 * @throws {CliFailure} others may read the file
 */
export async function readLogin(place: Place): Promise<Login | undefined> {
  const path = loginPath(place);
  let text: string;
  try {
    const { mode } = await stat(path);
    if (process.platform !== "win32" && (mode & OTHERS) !== 0)
      throw new CliFailure(`${path} can be read by others; remove it and log in again: ephor login`);
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof CliFailure) throw error;
    return undefined;
  }
  const value = parse(text);
  return value?.url === place.url ? value : undefined;
}

/** Keeps it: 0600, whole or not at all. */
export async function writeLogin(place: Place, login: Login): Promise<void> {
  const path = loginPath(place);
  await mkdir(join(place.dataDirectory, "logins"), { recursive: true, mode: 0o700 });
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  await writeFile(draft, JSON.stringify(login), { mode: 0o600, flag: "wx" });
  await rename(draft, path);
}

/** Forgets it. @returns whether there was one */
export async function removeLogin(place: Place): Promise<boolean> {
  return await unlink(loginPath(place)).then(
    () => true,
    () => false,
  );
}

function parse(text: string): Login | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value)) return undefined;
  const { url, issuer, sub, token, type, expires_at: expiresAt } = value;
  if (typeof url !== "string" || typeof issuer !== "string" || typeof sub !== "string") return undefined;
  if (typeof token !== "string" || typeof expiresAt !== "number") return undefined;
  if (type !== "idToken" && type !== "accessToken") return undefined;
  return { url, issuer, sub, token, type, expires_at: expiresAt };
}
