/**
 * The rotation of the login that makes roles: a password of ours in place of the present one.
 *
 * The server gets a SCRAM verifier, never the password. Every change is made in a transaction under one advisory lock of the
 * database, and its session is ended by the server when we vanish: whoever has the lock after us knows that nothing comes any more.
 * Leases are made in sessions that are open already, or that ask for the new password; none ends by it.
 */
import type pg from "pg";
import { durationSeconds } from "../../core/trust/values.ts";
import { randomToken } from "../../system/random.ts";
import type { RotationByUs, RotationOrder } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import { secretText, type SecretText } from "../secret-text.ts";
import { inTransaction, passwordOf, withConnection, withPassword } from "./postgres-connection.ts";
import { scramVerifier } from "./postgres-role.ts";
import type { PostgresSettings } from "./postgres-settings.ts";

/** Of the password. */
const PASSWORD_BYTES = 32;

/** SQLSTATE: the password is wrong. Other refusals (no such database, no entry in pg_hba.conf) say nothing about it. */
const WRONG_PASSWORD = "28P01";

type Order = RotationOrder<PostgresSettings>;
type ChangeOrder = Order & { readonly next: SecretText };

/** Rotation of `secret`. */
export const postgresRotation: RotationByUs<PostgresSettings> = {
  by: "us",
  covers: (settings, secret) => settings.secret === secret,
  // Logins belong to the whole server, whichever of its databases a resource is for.
  place: ({ host, port }) => `${host} ${port}`,
  secrets: ({ secret }) => [secret],
  everySeconds: ({ rotate_every: every }) => (every === undefined ? undefined : durationSeconds(every)),
  next(order) {
    const present = presentOf(order);
    // It may have to be set again: of other characters SASLprep would make others (RFC 4013).
    if (!/^[\x20-\x7e]+$/.test(passwordOf(present)))
      throw new ProviderError("secret_malformed", { code: "password_not_ascii" });
    return secretText(withPassword(present, randomToken(PASSWORD_BYTES)));
  },
  change,
  which,
};

async function change(order: ChangeOrder, signal: AbortSignal): Promise<void> {
  const { settings, next } = order;
  const present = presentOf(order);
  await withConnection({ settings, secret: present }, signal, async (client) => {
    await setPassword(client, next);
    try {
      await prove(order, present, signal);
    } catch (error) {
      // This session is the one that surely still may. Where even that fails, `which` tells how it ended.
      await setPassword(client, present).catch(() => {});
      throw error;
    }
  });
}

async function prove({ settings, next }: ChangeOrder, present: SecretText, signal: AbortSignal): Promise<void> {
  if (!(await isLetIn(settings, next, signal)))
    throw new ProviderError("order_refused", { code: "new_password_refused" });
  // A server that lets anybody in (`trust`), or asks another one (LDAP), does not look at the password that it stores.
  if (await isLetIn(settings, present, signal))
    throw new ProviderError("order_refused", { code: "password_not_checked" });
}

async function which(order: ChangeOrder, signal: AbortSignal): Promise<"present" | "next" | undefined> {
  const { settings, next } = order;
  const both = [
    ["present", presentOf(order)],
    ["next", next],
  ] as const;
  for (const [name, secret] of both) {
    const waited = await isLetIn(settings, secret, signal, (client) => inTransaction(client, () => lock(client)));
    // What was under way while we waited is over now: it is asked once more.
    if (waited && (await isLetIn(settings, secret, signal))) return name;
  }
  return undefined;
}

async function isLetIn(
  settings: PostgresSettings,
  secret: SecretText,
  signal: AbortSignal,
  work: (client: pg.Client) => Promise<unknown> = async () => {},
): Promise<boolean> {
  try {
    await withConnection({ settings, secret }, signal, work);
    return true;
  } catch (error) {
    if (error instanceof ProviderError && error.code === WRONG_PASSWORD) return false;
    throw error;
  }
}

async function setPassword(client: pg.Client, secret: SecretText): Promise<void> {
  const verifier = await scramVerifier(passwordOf(secret));
  await inTransaction(client, async () => {
    await lock(client);
    // Of digits, letters and + / = $ : -
    await client.query(`alter role session_user password '${verifier}'`);
  });
}

/** Until the end of the transaction. */
async function lock(client: pg.Client): Promise<void> {
  await client.query("select pg_advisory_xact_lock(hashtextextended('ephor rotation', 0))");
}

function presentOf({ settings, secrets }: Order): SecretText {
  const secret = secrets.get(settings.secret);
  if (!secret) throw new ProviderError("secret_malformed");
  return secret;
}
