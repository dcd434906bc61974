/**
 * The provider `postgres`: a role made for one lease, and gone at its end.
 *
 * - It is made in one transaction with all its rights: `VALID UNTIL` the lease's end, few connections, and a comment that
 *   names agent, human and task. The server never sees its password, only the SCRAM verifier.
 * - `VALID UNTIL` keeps new sessions out, by password only; open ones go on. So `destroy` takes the login away, ends the
 *   sessions and waits until they are gone, drops what the role owns and was granted, and drops the role.
 * - What the role made is dropped with it, or goes to `reassign_to`. Objects of others that depend on such an object stop
 *   that (SQLSTATE 2BP01): the role is then without login and sessions, and its lease is shown as stuck.
 * - Beyond its reach: what the role wrote into tables, and jobs that an extension runs (pg_cron) under another name.
 * - The login from the vault needs CREATEROLE and INHERIT, ADMIN OPTION on the groups it gives (PostgreSQL 16 on), and
 *   what the statements grant, with grant option. It should be the same over a lease's life: PostgreSQL 16 lets only the login that
 *   made a role end it. It connects to the server itself: behind a pooler of transactions sessions cannot be ended surely.
 */
import { randomToken } from "../../system/random.ts";
import type { CredentialProvider, LeaseFacts, LeaseHandle, Minted, MintOrder } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import type { SecretText } from "../secret-text.ts";
import { withConnection } from "./postgres-connection.ts";
import { endRole } from "./postgres-end.ts";
import { createRole, roleName, scramVerifier } from "./postgres-role.ts";
import { postgresRotation } from "./postgres-rotation.ts";
import { postgresSettings, rightsOf, tlsOf, type PostgresSettings } from "./postgres-settings.ts";

/** Of the password. */
const PASSWORD_BYTES = 32;

/** The only names that are put into statements. */
const ROLE_NAME = /^[a-z][a-z0-9_]{0,62}$/;

/** Makes the provider. */
export function createPostgresProvider(): CredentialProvider<PostgresSettings> {
  return {
    kind: "postgres",
    settings: postgresSettings,
    secrets: (settings) => [settings.secret],
    rotation: postgresRotation,
    mint,
    destroy,
    residualSeconds: () => 0,
  };
}

/** After a crash or a lost answer the role may be there: `destroy` finds it by the lease's id. */
async function mint(order: MintOrder<PostgresSettings>, signal: AbortSignal): Promise<Minted> {
  const { settings, lease, issuedAt, endsAt } = order;
  const name = roleName(settings.name_prefix, lease);
  const rights = rightsOf(settings, order.policies);
  const password = randomToken(PASSWORD_BYTES);
  const verifier = await scramVerifier(password);
  await withConnection({ settings, secret: loginOf(settings, order.secrets) }, signal, (client) =>
    createRole(client, { name, verifier, settings, rights, lease, issuedAt, endsAt }),
  );
  return {
    credential: credentialOf(settings, name, password),
    handle: { role: name },
    marks: [{ kind: "database_role", value: name }],
  };
}

async function destroy(ended: LeaseHandle<PostgresSettings>, signal: AbortSignal): Promise<void> {
  const { settings, lease, handle } = ended;
  const name = nameOf(settings, lease, handle);
  await endRole({ settings, secret: loginOf(settings, ended.secrets) }, name, signal);
}

/** The prefix may have changed since the mint; then only the handle knows. No other lease's role is ever ended. */
function nameOf(settings: PostgresSettings, lease: LeaseFacts, handle: LeaseHandle<unknown>["handle"]): string {
  const derived = roleName(settings.name_prefix, lease);
  const name = handle?.["role"] ?? derived;
  if (!ROLE_NAME.test(name) || !name.endsWith(derived.slice(derived.lastIndexOf("_")))) {
    throw new ProviderError("order_refused");
  }
  return name;
}

function loginOf(settings: PostgresSettings, secrets: ReadonlyMap<string, SecretText>): SecretText {
  const secret = secrets.get(settings.secret);
  if (!secret) throw new ProviderError("secret_malformed");
  return secret;
}

/** As libpq spells it, in members and as one URL. */
function credentialOf(settings: PostgresSettings, username: string, password: string): Minted["credential"] {
  const { host, port, database } = settings;
  const tls = tlsOf(settings);
  const parameters = new URLSearchParams();
  if (host.startsWith("/")) {
    parameters.set("host", host);
    parameters.set("port", String(port));
  }
  if (tls) parameters.set("sslmode", tls.sslmode);
  const authority = host.startsWith("/") ? "" : `${host.includes(":") ? `[${host}]` : host}:${port}`;
  const query = parameters.size > 0 ? `?${parameters.toString()}` : "";
  return {
    host,
    port,
    database,
    username,
    password,
    url: `postgres://${username}:${password}@${authority}/${encodeURIComponent(database)}${query}`,
    ...(tls && { sslmode: tls.sslmode, ...(tls.ca !== undefined && { ca: tls.ca }) }),
  };
}
