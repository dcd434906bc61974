/*
 * core/oauth owns how OAuth requests are read and how refusals are named: forms, scopes, targets, the Authorization header,
 * trace context, and the closed lists of errors and reasons. Pure functions over text; anybody may call it.
 */
import { InvalidRequestError } from "./errors.ts";

/** Parameters that may occur several times (RFC 8693 §2.1, RFC 8707 §2). */
export const REPEATABLE_PARAMETERS: readonly string[] = ["resource", "audience"];

/** Most parameters in one form. The longest request we serve has twelve, and clients may add some of their own. */
export const MAX_FORM_PARAMETERS = 64;

/** What a form may hold. */
export interface FormOptions {
  /** Default: {@link REPEATABLE_PARAMETERS}. */
  readonly repeatable?: readonly string[];
  /** Default: {@link MAX_FORM_PARAMETERS}. */
  readonly maxParameters?: number;
}

/** The parameters of a request. A parameter with an empty value is absent (RFC 6749 §3.2). */
export interface Form {
  /**
   * The value, or undefined.
   *
   * @throws {InvalidRequestError} `parameter_repeated` for a repeatable one that was sent with several values
   */
  get(name: string): string | undefined;
  /** All values, in order. */
  getAll(name: string): readonly string[];
  has(name: string): boolean;
  /** Of all that was sent, with a value or without. */
  names(): readonly string[];
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads an `application/x-www-form-urlencoded` body, strictly: whatever this accepts, `URLSearchParams` reads alike.
 *
 * @throws {InvalidRequestError} `malformed_request` (bad percent-encoding, bad UTF-8, NUL, too many parameters),
 * `parameter_repeated`
 * @see RFC 6749 §3.2 and appendix B
 */
export function readForm(body: Uint8Array, options: FormOptions = {}): Form {
  const repeatable = options.repeatable ?? REPEATABLE_PARAMETERS;
  const maxParameters = options.maxParameters ?? MAX_FORM_PARAMETERS;
  const text = decodeBody(body);
  const values = new Map<string, string[]>();
  let count = 0;
  for (let start = 0; start < text.length;) {
    const ampersand = text.indexOf("&", start);
    const end = ampersand < 0 ? text.length : ampersand;
    if (end > start) {
      if (++count > maxParameters) throw malformed("The request has too many parameters.");
      addParameter(values, text.slice(start, end), repeatable);
    }
    start = end + 1;
  }
  return formOf(values);
}

/**
 * Text of one form-encoded component: `+` is a space, `%XX` the octets of UTF-8.
 *
 * @returns undefined for broken percent-encoding, bytes that are not UTF-8, or NUL
 */
export function decodeFormComponent(text: string): string | undefined {
  const spaced = text.includes("+") ? text.replaceAll("+", " ") : text;
  let decoded: string;
  try {
    decoded = spaced.includes("%") ? decodeURIComponent(spaced) : spaced;
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
  return decoded.includes("\0") ? undefined : decoded;
}

const FORM_TYPE = /^application\/x-www-form-urlencoded[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?$/i;

/**
 * Refuses a body that is not declared as a form in UTF-8.
 *
 * @param value the `Content-Type` header
 * @throws {InvalidRequestError} `content_type`, status 415
 * @see A-TX-04, A-TX-05
 */
export function checkContentType(value: string | undefined): void {
  if (value !== undefined && FORM_TYPE.test(value)) return;
  throw new InvalidRequestError({
    reason: "content_type",
    status: 415,
    help: "The body must be application/x-www-form-urlencoded in UTF-8.",
  });
}

function decodeBody(body: Uint8Array): string {
  try {
    return decoder.decode(body);
  } catch (error) {
    throw new InvalidRequestError({ reason: "malformed_request", help: "The body is not UTF-8." }, { cause: error });
  }
}

function addParameter(values: Map<string, string[]>, pair: string, repeatable: readonly string[]): void {
  const equals = pair.indexOf("=");
  const name = decodeFormComponent(equals < 0 ? pair : pair.slice(0, equals));
  const value = decodeFormComponent(equals < 0 ? "" : pair.slice(equals + 1));
  if (name === undefined || value === undefined) throw malformed("A parameter is not form-encoded UTF-8 text.");
  const known = values.get(name);
  if (known === undefined) values.set(name, [value]);
  else if (repeatable.includes(name)) known.push(value);
  else throw new InvalidRequestError({ reason: "parameter_repeated", help: "A parameter occurs more than once." });
}

function formOf(values: ReadonlyMap<string, readonly string[]>): Form {
  const getAll = (name: string) => (values.get(name) ?? []).filter((value) => value !== "");
  return {
    getAll,
    has: (name) => getAll(name).length > 0,
    names: () => [...values.keys()],
    get(name) {
      const all = values.get(name);
      if (all === undefined) return undefined;
      if (all.length === 1) return all[0] === "" ? undefined : all[0];
      const present = getAll(name);
      if (present.length > 1) throw new InvalidRequestError({ reason: "parameter_repeated", parameter: name });
      return present[0];
    },
  };
}

function malformed(help: string): InvalidRequestError {
  return new InvalidRequestError({ reason: "malformed_request", help });
}
