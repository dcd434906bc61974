import { ConnectionError } from "./errors.ts";
import { exchange, type ExchangeOrder } from "./exchange.ts";
import { callJson, isRecord } from "./wire.ts";

/** A downstream credential that was vended (CONTRACT §7). */
export interface Vended {
  readonly lease: string;
  readonly kind: string;
  /** RFC 3339: when it is dead. */
  readonly expires_at: string;
  /** Seconds that it lives on at its upstream after that; null: nobody knows when it ends. */
  readonly residual_seconds: number | null;
  /** In the form that its native tools read; holds secrets. */
  readonly credential: Readonly<Record<string, unknown>>;
}

/**
 * A credential of a resource of kind `credential`: a token for it, then the credential.
 *
 * @param order.resource the resource's name
 * @throws {ApiError}, {ConnectionError}
 */
export async function vend(
  url: string,
  order: Omit<ExchangeOrder, "target" | "scopes"> & { readonly resource: string },
): Promise<Vended> {
  const { resource, ...rest } = order;
  const token = await exchange(url, { ...rest, target: resource, scopes: [`${resource}:vend`] });
  return await vendWith(url, resource, token.access_token);
}

/**
 * A credential, for a token that was made for its resource.
 *
 * @throws {ApiError}, {ConnectionError}
 */
export async function vendWith(url: string, resource: string, token: string): Promise<Vended> {
  const { json } = await callJson(url, {
    method: "POST",
    path: `/credentials/${encodeURIComponent(resource)}`,
    headers: { authorization: `Bearer ${token}` },
  });
  if (!isVended(json)) throw new ConnectionError("not_ephor");
  return json;
}

/** Whether a JSON value is an answer of `POST /credentials/{resource}`. */
export function isVended(json: unknown): json is Vended {
  if (!isRecord(json)) return false;
  const { lease, kind, expires_at: expiresAt, credential } = json;
  return (
    typeof lease === "string" &&
    typeof kind === "string" &&
    typeof expiresAt === "string" &&
    !Number.isNaN(Date.parse(expiresAt)) &&
    isRecord(credential)
  );
}
