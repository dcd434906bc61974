import { InvalidClientError, InvalidRequestError } from "../core/oauth/errors.ts";
import { readBasic } from "../core/oauth/basic.ts";
import type { Form } from "../core/oauth/form.ts";
import type { Resource } from "../core/trust/model.ts";
import { digestsEqual, sha256Hex } from "../system/hash.ts";
import { clientAssertion, type ActingAgent } from "./acting-agent.ts";
import type { StsDeps } from "./deps.ts";
import { isKilled } from "./is-killed.ts";
import type { Context } from "./request.ts";

/** Who asks at `/introspect` or `/revoke`: a resource server by its secret, or an agent by an assertion. */
export interface IntrospectionClient {
  /** Recorded as this. */
  readonly name: string;
  /** The resources whose tokens it may ask about. */
  readonly resources: readonly Resource[];
  readonly acting?: ActingAgent;
}

/** Longest client secret that is looked at, in characters; ours have 43. */
const SECRET_MAX_CHARACTERS = 512;
/** Compared with when there is no such client, so that its absence takes the same time (INV-26). */
const NOBODYS_HASH = sha256Hex("no such client");

/**
 * Client authentication of RFC 7662 §2.1 and RFC 7009 §2.1: one method only.
 *
 * @throws {InvalidRequestError} `client_several_methods`
 * @throws {InvalidClientError} the same for every cause
 */
export async function introspectionClient(deps: StsDeps, context: Context): Promise<IntrospectionClient> {
  const { form, authorization } = context;
  const methods = [authorization !== undefined, form.has("client_secret"), form.has("client_assertion")];
  if (methods.filter(Boolean).length > 1) {
    throw new InvalidRequestError({ reason: "client_several_methods", help: "Use one client authentication method." });
  }
  if (form.has("client_assertion")) return await byAssertion(deps, context);
  const { clientId, clientSecret } = credentials(form, authorization);
  const resource = deps.trust().resourceByName(clientId);
  const introspection = resource?.introspection;
  const stored = introspection && "secretHash" in introspection ? introspection.secretHash : undefined;
  const isRight = digestsEqual(hashOf(stored), sha256Hex(clientSecret.slice(0, SECRET_MAX_CHARACTERS)));
  if (!resource || stored === undefined || !isRight || clientSecret.length > SECRET_MAX_CHARACTERS) {
    throw new InvalidClientError({ reason: stored === undefined ? "client_unknown" : "client_secret_wrong" });
  }
  return { name: resource.name, resources: [resource] };
}

/** `sha256:` and the digest, hexadecimal or base64url, as the trust file has it. */
function hashOf(secretHash: string | undefined): string {
  if (secretHash === undefined) return NOBODYS_HASH;
  const digest = secretHash.slice(secretHash.indexOf(":") + 1);
  return /^[0-9a-f]{64}$/i.test(digest) ? digest.toLowerCase() : Buffer.from(digest, "base64url").toString("hex");
}

function credentials(form: Form, authorization: string | undefined): { clientId: string; clientSecret: string } {
  const basic = readBasic(authorization);
  if (basic) {
    if (form.has("client_id") && form.get("client_id") !== basic.clientId)
      throw new InvalidClientError({ reason: "client_mismatch" });
    return basic;
  }
  const clientId = form.get("client_id");
  const clientSecret = form.get("client_secret");
  if (clientId === undefined || clientSecret === undefined) throw new InvalidClientError({ reason: "client_missing" });
  return { clientId, clientSecret };
}

/** An agent: the tokens of resources that name it as their introspection client, and, for revocation, its own. */
async function byAssertion(deps: StsDeps, context: Context): Promise<IntrospectionClient> {
  const acting = await clientAssertion(deps, context, context.form.get("client_id"));
  if (!acting) throw new InvalidClientError({ reason: "client_missing" });
  if (await isKilled(deps, acting)) throw new InvalidClientError({ reason: "killed", agent: acting.agent.name });
  await spendOnce(deps, acting, context.requestId);
  const { name } = acting.agent;
  return { name, resources: deps.trust().resourcesIntrospectedBy(name), acting };
}

/** A `private_key_jwt` works once here too, over all replicas (RFC 7523 §3, CONTRACT §5). The gate is not asked, so it is spent here. */
async function spendOnce(deps: StsDeps, acting: ActingAgent, requestId: string): Promise<void> {
  if (acting.replay.length === 0) return;
  const spent = await deps.db.query<{ key: string }>(
    `insert into ephor.replay (key, holder, exp) select k, $2, e from unnest($1::text[], $3::bigint[]) as u(k, e)
     on conflict (key) do nothing returning key`,
    [acting.replay.map((entry) => entry.key), requestId, acting.replay.map((entry) => entry.exp)],
  );
  if (spent.length < acting.replay.length)
    throw new InvalidClientError({ reason: "token_replayed", agent: acting.agent.name });
}
