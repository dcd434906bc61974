import { z } from "zod";
import type { EpochSeconds } from "../time.ts";
import { globProblem } from "./glob.ts";
import { TRUST_LIMITS } from "./limits.ts";

/** Characters that belong in no name, identifier or free text of ours. */
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** The grammar of all names of objects (CONTRACT §1). */
export const NAME_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** Name of an issuer, agent, resource, grant or secret. */
export const nameValue = z.string().regex(NAME_PATTERN, {
  error: "must be of a-z, 0-9 and -, at most 63 characters, beginning with a letter or digit",
});

/** Free text that people read: one line. */
export const textValue = z
  .string()
  .min(1)
  .max(TRUST_LIMITS.textCharacters)
  .refine((text) => text.trim() !== "" && !CONTROL.test(text), { error: "must be one line of text" });

const DURATION = /^([1-9][0-9]{0,5})(s|m|h|d)$/;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** A whole number and a unit: `20s`, `10m`, `8h`, `30d`. */
export const durationValue = z.string().regex(DURATION, { error: "must be a duration like 20s, 10m, 8h or 30d" });

/** @returns seconds; undefined for a text that `durationValue` refuses */
export function readDuration(text: string): number | undefined {
  const [, count, unit] = DURATION.exec(text) ?? [];
  return count === undefined || unit === undefined ? undefined : Number(count) * SECONDS[unit as keyof typeof SECONDS];
}

/** @returns seconds. @throws {RangeError} for a text that `durationValue` refuses */
export function durationSeconds(text: string): number {
  const seconds = readDuration(text);
  if (seconds === undefined) throw new RangeError("not a duration");
  return seconds;
}

const SIZE = /^([1-9][0-9]{0,5})(KiB|MiB)$/;

/** A whole number and a unit: `64KiB`, `1MiB`. */
export const sizeValue = z.string().regex(SIZE, { error: "must be a size like 64KiB or 1MiB" });

/** @returns bytes; undefined for a text that `sizeValue` refuses */
export function readSize(text: string): number | undefined {
  const [, count, unit] = SIZE.exec(text) ?? [];
  return count === undefined ? undefined : Number(count) * (unit === "MiB" ? 1024 * 1024 : 1024);
}

const DATE = /^(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}):(\d{2}):(\d{2})Z)?$/;

/** A day (it begins at 00:00 UTC) or a second in UTC. */
export const dateValue = z.string().refine((text) => readDate(text) !== undefined, {
  error: "must be a date like 2027-01-01 or a time like 2027-01-01T12:00:00Z",
});

/** @returns the beginning of the day, or the second. @throws {RangeError} for a text that `dateValue` refuses */
export function dateSeconds(text: string): EpochSeconds {
  const at = readDate(text);
  if (at === undefined) throw new RangeError("not a date");
  return at;
}

function readDate(text: string): EpochSeconds | undefined {
  if (!DATE.test(text)) return undefined;
  const iso = text.length === 10 ? `${text}T00:00:00Z` : text;
  const ms = Date.parse(iso);
  // `2027-02-30` is read as the second of March: only what reads back the same is a date.
  if (!Number.isFinite(ms) || new Date(ms).toISOString() !== iso.replace("Z", ".000Z")) return undefined;
  return ms / 1000;
}

/** An absolute URL as RFC 3986 writes it, without userinfo and fragment. Compared as text, so never normalised. */
export function urlValue(rules: { schemes: readonly string[]; query: boolean }): z.ZodString {
  return z
    .string()
    .max(TRUST_LIMITS.urlCharacters)
    .refine((text) => urlProblem(text, rules) === undefined, {
      error: (issue) => urlProblem(String(issue.input), rules) ?? "is malformed",
    });
}

function urlProblem(text: string, rules: { schemes: readonly string[]; query: boolean }): string | undefined {
  if (!/^[\x21-\x7e]+$/.test(text) || /["<>\\^`{|}]/.test(text)) return "has characters that a URL cannot have";
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return "must be an absolute URL";
  }
  const scheme = url.protocol.slice(0, -1);
  if (!rules.schemes.includes(scheme) || !text.startsWith(`${scheme}://`))
    return `must begin with ${rules.schemes.join(":// or ")}://`;
  if (url.username !== "" || url.password !== "" || text.includes("@")) return "must not carry a user or a password";
  if (text.includes("#")) return "must not have a fragment";
  if (!rules.query && text.includes("?")) return "must not have a query";
  return undefined;
}

/** Whether a URL's host is this machine, where `http:` may be used. */
export function isLoopbackUrl(text: string): boolean {
  let host: string;
  try {
    host = new URL(text).hostname;
  } catch {
    return false;
  }
  return host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** One value or a list of them; read with `asList`. */
export function oneOrMany<T extends z.ZodType>(value: T, max: number) {
  return z.union([value, z.array(value).min(1).max(max)]);
}

/** The list behind `oneOrMany`. */
export function asList<T>(value: T | readonly T[]): readonly T[] {
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

const scalarValue = z.union([
  z.string().max(TRUST_LIMITS.valueCharacters),
  z.number().refine((n) => Number.isSafeInteger(n) || (Number.isFinite(n) && !Number.isInteger(n)), {
    error: "is a number too large to be exact",
    params: { mend: "write it in quotes if the platform sends it as text" },
  }),
  z.boolean(),
]);

const globValue = z.string().superRefine((text, ctx) => {
  const what = globProblem(text);
  if (what !== undefined) ctx.addIssue({ code: "custom", message: what });
});
const likeValue = z.strictObject({ like: globValue });

const matcherValue = z.union([
  scalarValue,
  z
    .array(z.union([scalarValue, likeValue]))
    .min(1)
    .max(TRUST_LIMITS.values),
  likeValue,
  z.strictObject({ absent: z.literal(true) }),
]);

/** Claim names with their matchers. */
export const matchersValue = z.record(z.string(), matcherValue).superRefine((claims, ctx) => {
  const names = Object.keys(claims);
  if (names.length > TRUST_LIMITS.claims)
    ctx.addIssue({ code: "custom", message: `has more than ${TRUST_LIMITS.claims} claims` });
  for (const name of names) {
    const tooLong =
      name.length > TRUST_LIMITS.claimNameCharacters || name.split(".").length - 1 > TRUST_LIMITS.claimNameDots;
    if (name === "" || tooLong || CONTROL.test(name))
      ctx.addIssue({ code: "custom", message: "is no name of a claim", path: [name] });
  }
});

const PRIVATE_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/** A public JWK: EC, RSA or OKP, of a strength that we accept (RFC 7517, RFC 8037). */
export const publicJwkValue = z.looseObject({ kty: z.string() }).superRefine((jwk, ctx) => {
  const what = jwkProblem(jwk);
  if (what !== undefined) ctx.addIssue({ code: "custom", message: what });
});

function jwkProblem(jwk: Readonly<Record<string, unknown>>): string | undefined {
  // The private half must never be stored; whoever pasted it has to make a new key.
  if (PRIVATE_MEMBERS.some((member) => Object.hasOwn(jwk, member)))
    return "is a private key; replace that key and give its public half";
  const isText = (member: string): boolean => {
    const value = jwk[member];
    return (
      typeof value === "string" && /^[A-Za-z0-9_-]+$/.test(value) && value.length <= TRUST_LIMITS.keyMemberCharacters
    );
  };
  for (const member of ["kid", "alg", "use"]) {
    const value = jwk[member];
    if (value !== undefined && (typeof value !== "string" || value.length > TRUST_LIMITS.textCharacters))
      return `has a bad ${member}`;
  }
  switch (jwk["kty"]) {
    case "EC":
      if (!["P-256", "P-384", "P-521"].includes(String(jwk["crv"])))
        return "is on a curve other than P-256, P-384 and P-521";
      return isText("x") && isText("y") ? undefined : "has bad coordinates";
    case "OKP":
      if (jwk["crv"] !== "Ed25519") return "is on a curve other than Ed25519";
      return isText("x") ? undefined : "has a bad coordinate";
    case "RSA":
      if (!isText("n") || !isText("e")) return "has a bad modulus or exponent";
      // 2048 bits are 342 characters of base64url.
      return String(jwk["n"]).length >= 342 ? undefined : "is an RSA key of less than 2048 bits";
    default:
      return "must be of kty EC, RSA or OKP";
  }
}
