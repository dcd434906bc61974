import { decodeBase64url } from "../token/base64url.ts";
import { InvalidClientError } from "./errors.ts";
import { decodeFormComponent } from "./form.ts";

/** Client id and secret of a Basic header. */
export interface BasicCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** Longest Basic header, in characters: our secrets have 43, names 63. */
const BASIC_MAX_CHARACTERS = 2048;

const CREDENTIALS = /^basic +([A-Za-z0-9+/]+)(={0,2})$/i;
const SCHEME = /^basic(?![A-Za-z0-9!#$%&'*+.^_`|~-])/i;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The credentials of an `Authorization: Basic` header. Each half is form-encoded inside the base64.
 *
 * @param value the header's only value
 * @returns undefined when there is none, or one of another scheme
 * @throws {InvalidClientError} `malformed_request` when the scheme is Basic and the rest is not readable
 * @see RFC 6749 §2.3.1, RFC 7617 §2
 */
export function readBasic(value: string | undefined): BasicCredentials | undefined {
  if (value === undefined || !SCHEME.test(value)) return undefined;
  const match = value.length > BASIC_MAX_CHARACTERS ? null : CREDENTIALS.exec(value);
  const [, body = "", padding = ""] = match ?? [];
  const isPadded = body !== "" && (body.length + padding.length) % 4 === 0;
  const text = isPadded ? decodeText(body) : undefined;
  const colon = text?.indexOf(":") ?? -1;
  if (text === undefined || colon < 0) throw unreadable();
  const clientId = decodeFormComponent(text.slice(0, colon));
  const clientSecret = decodeFormComponent(text.slice(colon + 1));
  if (clientId === undefined || clientId === "" || clientSecret === undefined) throw unreadable();
  return { clientId, clientSecret };
}

function decodeText(base64: string): string | undefined {
  const bytes = decodeBase64url(base64.replaceAll("+", "-").replaceAll("/", "_"));
  try {
    return bytes && decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function unreadable(): InvalidClientError {
  return new InvalidClientError({ reason: "malformed_request" });
}
