import { CLIENT_ASSERTION_TYPE, GRANT_TYPE, TOKEN_TYPE } from "../../core/oauth/vocabulary.ts";
import { ConnectionError } from "./errors.ts";
import { callJson, isRecord } from "./wire.ts";

/** A token and what kind it is said to be. */
export interface TypedToken {
  readonly token: string;
  readonly type: keyof Pick<typeof TOKEN_TYPE, "accessToken" | "idToken" | "jwt" | "task">;
}

/** Who asks: the token of its platform, or an assertion signed by its own key. */
export type Proof = { readonly workloadToken: string } | { readonly clientAssertion: string };

/** What is asked of `/token` (CONTRACT §5). */
export interface ExchangeOrder {
  readonly proof: Proof;
  /** On whose behalf, or which task or hand-over is continued; absent: the agent for itself. */
  readonly subject?: TypedToken | undefined;
  /** A resource's identifier or name, or an agent to hand the work to as `<issuer>/agents/<name>`. */
  readonly target: string;
  readonly scopes: readonly string[];
  readonly purpose?: string | undefined;
  /** Seconds, 1 to 59. */
  readonly ttlSeconds?: number | undefined;
  /** W3C trace context, recorded with every event. */
  readonly traceparent?: string | undefined;
  /** A proof by the key that the token is to be bound to (RFC 9449 §5). */
  readonly dpop?: string | undefined;
}

/** A token (RFC 8693 §2.2.1). */
export interface Exchanged {
  readonly access_token: string;
  readonly token_type: string;
  readonly expires_in: number;
  readonly scope: string;
  readonly issued_token_type?: string;
}

/**
 * Asks for a token: token exchange, or `client_credentials` where an agent with its own key acts for itself.
 *
 * @param url the server's, without trailing slash
 * @throws {ApiError} with the OAuth error code
 * @throws {ConnectionError}
 * @see RFC 8693 §2.1, RFC 6749 §4.4
 */
export async function exchange(url: string, order: ExchangeOrder): Promise<Exchanged> {
  const { json } = await callJson(url, {
    method: "POST",
    path: "/token",
    form: formOf(order),
    headers: {
      ...(order.traceparent !== undefined && { traceparent: order.traceparent }),
      ...(order.dpop !== undefined && { dpop: order.dpop }),
    },
  });
  if (!isRecord(json)) throw new ConnectionError("not_ephor");
  const { access_token: token, token_type: type, expires_in: seconds, scope } = json;
  if (
    typeof token !== "string" ||
    typeof type !== "string" ||
    typeof seconds !== "number" ||
    typeof scope !== "string"
  ) {
    throw new ConnectionError("not_ephor");
  }
  return json as unknown as Exchanged;
}

/**
 * Hands work to another agent: a token that only it can redeem.
 *
 * @param order `issuer` is the server's issuer identifier, `to` the agent's name
 */
export function handOver(
  url: string,
  order: Omit<ExchangeOrder, "target"> & { issuer: string; to: string },
): Promise<Exchanged> {
  const { issuer, to, ...rest } = order;
  return exchange(url, { ...rest, target: `${issuer}/agents/${to}` });
}

function formOf({ proof, subject, target, scopes, purpose, ttlSeconds }: ExchangeOrder): URLSearchParams {
  const form = new URLSearchParams();
  const set = (name: string, value: string | undefined): void => {
    if (value !== undefined) form.set(name, value);
  };
  if ("clientAssertion" in proof) {
    set("client_assertion", proof.clientAssertion);
    set("client_assertion_type", CLIENT_ASSERTION_TYPE.jwtBearer);
  }
  if (subject !== undefined) {
    set("grant_type", GRANT_TYPE.tokenExchange);
    set("subject_token", subject.token);
    set("subject_token_type", TOKEN_TYPE[subject.type]);
    if ("workloadToken" in proof) {
      set("actor_token", proof.workloadToken);
      set("actor_token_type", TOKEN_TYPE.jwt);
    }
  } else if ("workloadToken" in proof) {
    set("grant_type", GRANT_TYPE.tokenExchange);
    set("subject_token", proof.workloadToken);
    set("subject_token_type", TOKEN_TYPE.jwt);
  } else {
    set("grant_type", GRANT_TYPE.clientCredentials);
  }
  // A bare name is an audience; `resource` must be an absolute URI (RFC 8707 §2).
  set(URL.canParse(target) ? "resource" : "audience", target);
  set("scope", scopes.join(" "));
  set("purpose", purpose);
  set("ttl", ttlSeconds === undefined ? undefined : String(ttlSeconds));
  return form;
}
