import { CLIENT_ASSERTION_TYPE } from "../../core/oauth/vocabulary.ts";
import { basicAuthorization, type ResourceCredential } from "./credential.ts";

/** Milliseconds that introspection may take. */
const TIMEOUT_MS = 5_000;

/** The server could not be asked: nothing is known against the token. */
export class IntrospectionUnavailableError extends Error {
  override readonly name = "IntrospectionUnavailableError";
}

/** Asks the server about a token, each time. */
export interface Introspection {
  /**
   * Whether the token is live now.
   *
   * @param o.jti of the token, which the answer must name
   * @param o.consume uses up a once-only token: true for one caller only, over all replicas (CONTRACT §5 "Once")
   * @throws {IntrospectionUnavailableError}
   */
  isActive(token: string, o: { readonly jti: string; readonly consume: boolean }): Promise<boolean>;
}

/** @see RFC 7662 §2 */
export function createIntrospection(issuer: string, credential: ResourceCredential): Introspection {
  return {
    async isActive(token, { jti, consume }) {
      const form = new URLSearchParams({ token, ...(consume && { consume: "true" }) });
      const headers: Record<string, string> = { accept: "application/json" };
      if ("secret" in credential) headers["authorization"] = basicAuthorization(credential);
      else {
        form.set("client_assertion", await credential.assertion());
        form.set("client_assertion_type", CLIENT_ASSERTION_TYPE.jwtBearer);
      }
      const answer = await ask(`${issuer}/introspect`, form, headers);
      if (answer["active"] !== true) return false;
      if (answer["jti"] !== jti) throw new IntrospectionUnavailableError("another token's answer");
      return true;
    },
  };
}

async function ask(
  url: string,
  form: URLSearchParams,
  headers: Record<string, string>,
): Promise<Record<string, unknown>> {
  let answer: unknown;
  try {
    const response = await fetch(url, {
      method: "POST",
      headers,
      body: form,
      // The request carries a secret; it goes nowhere else.
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    answer = response.status === 200 ? await response.json() : undefined;
  } catch (cause) {
    throw new IntrospectionUnavailableError("no answer", { cause });
  }
  if (typeof answer !== "object" || answer === null) throw new IntrospectionUnavailableError("not an answer");
  return answer as Record<string, unknown>;
}
