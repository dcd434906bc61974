import ipaddr from "ipaddr.js";
import { isIP } from "node:net";
import { isAbsolute, resolve } from "node:path";
import { URL } from "node:url";
import { BadValue } from "./error.ts";

/** Where a listener is bound. */
export interface ListenAddress {
  /** An IP address, or `localhost`. */
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** Where the key that seals all others comes from. The names are those of the `kek` setting. */
export type KekReference =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "env"; readonly name: string }
  | { readonly kind: "awskms"; readonly keyArn: string }
  | { readonly kind: "vault-transit"; readonly url: string; readonly key: string };

/** Longest address, name or path that a setting may hold, in characters. */
const MAX_TEXT = 2_048;
const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

/** @throws {BadValue} unless the text is printable and of a sane length */
export function parseText(text: string): string {
  if (text === "" || text.length > MAX_TEXT || /\p{Cc}/u.test(text)) {
    throw new BadValue("is empty, too long or holds control characters", "Give one line of text");
  }
  return text;
}

/** `45s`, `10m`, `1h`, `30d` → whole seconds within bounds. */
export function parseDuration(bounds: { minSeconds: number; maxSeconds: number; hint: string }) {
  return (text: string): number => {
    const match = /^(\d{1,9})(s|m|h|d)$/.exec(text);
    const seconds = match ? Number(match[1]) * SECONDS[match[2] as keyof typeof SECONDS] : Number.NaN;
    if (Number.isNaN(seconds))
      throw new BadValue("is not a duration", "Write a whole number and s, m, h or d, like 45s or 1h");
    if (seconds < bounds.minSeconds || seconds > bounds.maxSeconds) throw new BadValue("is out of range", bounds.hint);
    return seconds;
  };
}

/** A duration, or `off`: null. */
export function parseDurationOrOff(bounds: { minSeconds: number; maxSeconds: number; hint: string }) {
  const parse = parseDuration(bounds);
  return (text: string): number | null => (text === "off" ? null : parse(text));
}

/** `true` or `false`. */
export function parseBoolean(text: string): boolean {
  if (text === "true") return true;
  if (text === "false") return false;
  throw new BadValue("is neither true nor false", "Write true or false");
}

/** A whole number within bounds. */
export function parseWhole(bounds: { min: number; max: number }) {
  return (text: string): number => {
    const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= bounds.min && value <= bounds.max)) {
      throw new BadValue("is not a whole number in range", `Write ${bounds.min} to ${bounds.max}`);
    }
    return value;
  };
}

/** One of a closed list. */
export function parseOneOf<T extends string>(choices: readonly T[]) {
  return (text: string): T => {
    const found = choices.find((choice) => choice === text);
    if (found === undefined) throw new BadValue("is not one of the choices", `Write one of ${choices.join(", ")}`);
    return found;
  };
}

/** `127.0.0.1:8460`, `[::1]:8460`, `localhost:8460`. */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  const isBracketed = match?.[1] !== undefined;
  if (!match || port > 65_535 || (host !== "localhost" && isIP(host) !== (isBracketed ? 6 : 4))) {
    throw new BadValue("is not an address and port", "Write it like 127.0.0.1:8460, 0.0.0.0:8460 or [::1]:8460");
  }
  return { host, port };
}

/** Whether only this machine can reach the address. */
export function isLoopbackHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, "");
  return bare === "localhost" || (isIP(bare) !== 0 && ipaddr.process(bare).range() === "loopback");
}

/** The issuer identifier, exactly as it will stand in `iss` (RFC 8414 §2: no query, no fragment). */
export function parseIssuer(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw new BadValue("is not an https URL", "Write it like https://sts.acme.example");
  }
  if (url.username !== "" || url.password !== "" || text.includes("?") || text.includes("#")) {
    throw new BadValue("has user info, a query or a fragment", "Give scheme, host, port and path only (RFC 8414)");
  }
  if (text.endsWith("/"))
    throw new BadValue("ends with a slash", "Leave it out: `iss` is compared character by character");
  const canonical = url.pathname === "/" ? url.origin : url.origin + url.pathname;
  if (text !== canonical || /\/\/|%/.test(url.pathname)) {
    throw new BadValue(
      "is not in its normal form",
      "Write scheme and host in lower case, without default port, dot segments or escapes",
    );
  }
  if (url.protocol === "http:" && !isLoopbackHost(url.hostname)) {
    throw new BadValue(
      "is an http URL of another machine, so tokens would travel in the clear",
      "Use https (set `tls`, or a TLS proxy in front); http is for loopback only",
    );
  }
  return text;
}

/** Addresses and networks whose `X-Forwarded-For` is believed. */
export function parseProxies(text: string): readonly string[] {
  return text
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "")
    .map((entry) => {
      const [address = "", bits, ...rest] = entry.split("/");
      const width = isIP(address) === 6 ? 128 : 32;
      const isNetwork = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= width);
      if (isIP(address) === 0 || !isNetwork || rest.length > 0) {
        throw new BadValue("is not a list of addresses or networks", "Write them like 10.0.0.7 or 10.1.0.0/16");
      }
      if (bits !== undefined && Number(bits) === 0) {
        throw new BadValue("trusts every address", "Name the proxies, or the network that only they are in");
      }
      return entry;
    });
}

/** Absolute paths of programs, separated by commas. */
export function parsePrograms(text: string): readonly string[] {
  const paths = parseText(text)
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");
  if (paths.length === 0 || !paths.every((path) => isAbsolute(path)))
    throw new BadValue("is not a list of absolute paths", "Write them like /usr/bin/node,/opt/mcp/files");
  return paths;
}

/** A path, absolute. Relative ones start at `base`: the folder of the file that says so, else the working directory. */
export function parsePath(text: string, base: string): string {
  const path = parseText(text);
  return isAbsolute(path) ? path : resolve(base, path);
}

/** `file:PATH`, `env:NAME`, `awskms:ARN`, `vault-transit:URL#key`. */
export function parseKek(text: string, base: string): KekReference {
  const [, kind, rest = ""] = /^(file|env|awskms|vault-transit):(.+)$/.exec(text) ?? [];
  if (kind === "file") return { kind, path: parsePath(rest, base) };
  if (kind === "env" && /^[A-Za-z_][A-Za-z0-9_]*$/.test(rest)) return { kind, name: rest };
  if (kind === "awskms" && /^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key\/[A-Za-z0-9-]+$/.test(rest)) {
    return { kind, keyArn: rest };
  }
  if (kind === "vault-transit") {
    const [url = "", key = ""] = rest.split("#");
    if (URL.canParse(url) && isPrivateUrl(new URL(url)) && /^[\w.-]{1,128}$/.test(key)) return { kind, url, key };
  }
  throw new BadValue("names no key", "Write file:PATH, env:NAME, awskms:ARN or vault-transit:URL#key");
}

/** Whether what is sent there can be read by nobody in between. */
function isPrivateUrl({ protocol, hostname, username, search }: URL): boolean {
  const isEncrypted = protocol === "https:" || (protocol === "http:" && isLoopbackHost(hostname));
  return isEncrypted && username === "" && search === "";
}

/** `file:PATH`: where kill position and audit heads are kept outside the database. */
export function parseAnchor(text: string, base: string): { readonly kind: "file"; readonly path: string } {
  const rest = text.startsWith("file:") ? text.slice("file:".length) : "";
  if (rest === "") throw new BadValue("names no place", "Write file:PATH, on another disk than the database");
  return { kind: "file", path: parsePath(rest, base) };
}

/** Passwords out of documentation and templates: whoever starts with one has forgotten to choose. */
const EXAMPLE_PASSWORDS = new Set([
  "changeme",
  "change-me",
  "change_me",
  "example",
  "password",
  "secret",
  "replace-me",
  "your-password",
]);

/** A PostgreSQL URL. The value is secret, so no message may quote it. */
export function parseDatabaseUrl(text: string): string {
  const url = /^postgres(?:ql)?:\/\/\S+$/.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined) {
    throw new BadValue("is not a PostgreSQL URL", "Write it like postgres://user:password@host:5432/database");
  }
  if (EXAMPLE_PASSWORDS.has(url.password.toLowerCase())) {
    throw new BadValue("holds an example password", "Choose a password of its own for this role");
  }
  return text;
}

/** Fewer different characters than this are no random 43. Random ones have about 31. */
const MIN_DISTINCT = 12;

/** `ephor_op_` and at least 43 base64url characters (256 bits). */
export function parseOperatorKey(text: string): string {
  const key = text.trim();
  const secret = /^ephor_op_([A-Za-z0-9_-]{43,256})$/.exec(key)?.[1];
  if (secret === undefined) {
    throw new BadValue("is not an operator key", "Write ephor_op_ and at least 43 random base64url characters");
  }
  if (new Set(secret).size < MIN_DISTINCT || /example|change|secret/i.test(secret)) {
    throw new BadValue("is an example or not random", "Make one with 32 random bytes in base64url");
  }
  return key;
}
