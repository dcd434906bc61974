/**
 * The settings of the provider `postgres`: where the database is, as whom Ephor makes roles there, and what a role made
 * for a lease may do.
 *
 * What it may do is said twice over, in words of PostgreSQL: `roles` that it becomes a member of (best: their rights are
 * looked after by those who own the database, and nothing is granted to the lease's role itself), and `statements` of the
 * operator's own, in which `{role}` stands for the role's quoted name and nothing else is replaced.
 */
import { z } from "zod";
import { nameValue, textValue } from "../../core/trust/values.ts";
import { ProviderError } from "../provider-error.ts";
import { rotateEveryValue } from "../rotate-every.ts";

/** Limits of one resource's settings, each with its reason. */
const LIMITS = {
  /** Groups of one role. */
  roles: 32,
  /** Statements of one mint: each is a round trip to the database. */
  statements: 32,
  statementCharacters: 2_000,
  policies: 32,
  /** An agent that needs more is a service, and should have a login of its own. */
  connections: 100,
  /** A chain of three certificates. */
  caCharacters: 16_000,
  /** Of the 63 bytes of a name, the lease's id takes 27 and the agent's name wants the rest. */
  prefixCharacters: 16,
} as const;

/** PostgreSQL cuts longer names. */
const IDENTIFIER_BYTES = 63;

/** Host name, IP address, or the folder of a unix socket. */
const hostValue = z
  .string()
  .min(1)
  .max(253)
  .regex(/^(?:\/[A-Za-z0-9._/@+-]+|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)$/, {
    error: "must be a host name, an IP address or the folder of a unix socket",
  });

const identifierValue = textValue.refine((text) => Buffer.byteLength(text) <= IDENTIFIER_BYTES, {
  error: "must be a PostgreSQL name of at most 63 bytes",
});

/**
 * What may be said about a role: its rights and its session's defaults. A closed list, so that no statement ends the
 * transaction in which the role is made, and so that what a lease can do is read off the trust file.
 */
const STATEMENT = /^(?:GRANT\s|REVOKE\s|ALTER\s+ROLE\s+\{role\}\s+(?:IN\s+DATABASE\s+\S+\s+)?(?:SET|RESET)\s)/i;

const statementValue = z
  .string()
  .max(LIMITS.statementCharacters)
  .refine((text) => STATEMENT.test(text), {
    error: "must begin with GRANT, REVOKE or ALTER ROLE {role} SET",
  })
  .refine((text) => text.includes("{role}"), { error: "must name the role as {role}" })
  .refine((text) => !/[{}]/.test(text.replaceAll("{role}", "")), { error: "has braces that are not {role}" })
  .refine((text) => !/['"]\{role\}|\{role\}['"]/.test(text), { error: "must not quote {role}: it is quoted already" })
  .refine((text) => !text.includes(";") && !text.includes("\0"), {
    error: "must be one statement, without a semicolon",
  });

const rolesValue = z.array(identifierValue).max(LIMITS.roles);
const statementsValue = z.array(statementValue).max(LIMITS.statements);

/** What a grant's policy leaves of the resource's rights; a list that it does not name is left as it is. */
const policyValue = z.strictObject({ roles: rolesValue.optional(), statements: statementsValue.optional() });

const tlsValue = z.union([
  z.literal(false),
  z.strictObject({
    /** PEM of the authorities to trust instead of the system's. */
    ca: z
      .string()
      .max(LIMITS.caCharacters)
      .refine((text) => /^-----BEGIN CERTIFICATE-----[^\0]+-----END CERTIFICATE-----\s*$/.test(text), {
        error: "must be certificates in PEM",
      })
      .optional(),
    /** What the agent's client is told. `require` where it has no file of authorities; Ephor itself always verifies. */
    sslmode: z.enum(["verify-full", "require"]).default("verify-full"),
  }),
]);

/** The shape of `credential: { postgres: … }`. */
export const postgresSettings = z
  .strictObject({
    host: hostValue,
    port: z.int().min(1).max(65_535).default(5432),
    database: identifierValue,
    /** The vault's secret with the login that makes roles: `{"username":…,"password":…}` or a `postgres://` URL. */
    secret: nameValue,
    /** How often Ephor gives that login a new password by itself. Absent: only when asked. */
    rotate_every: rotateEveryValue.optional(),
    /** Absent: verified TLS, except to a loopback address or a unix socket, which have none. */
    tls: tlsValue.optional(),
    /** Memberships. */
    roles: rolesValue.default([]),
    /** Statements of the operator. They run with an empty search path: names need their schema. */
    statements: statementsValue.default([]),
    session_policies: z
      .record(nameValue, policyValue)
      .refine((all) => Object.keys(all).length <= LIMITS.policies, { error: "has too many policies" })
      .default({}),
    connection_limit: z.int().min(1).max(LIMITS.connections).default(2),
    name_prefix: z
      .string()
      .max(LIMITS.prefixCharacters)
      .regex(/^(?!pg_?$|pg_)[a-z][a-z0-9_]*$/, { error: "must be of a-z, 0-9 and _, and must not begin with pg_" })
      .default("ephor"),
    /**
     * Who gets what the lease's role owns at its end. Absent: it is dropped. A function that the agent made SECURITY
     * DEFINER then runs with this role's rights, so name one that may little.
     */
    reassign_to: identifierValue.optional(),
    /**
     * Whether the agent may SET ROLE to `roles`, so that what it makes belongs to them and stays. PostgreSQL 15 and
     * older cannot keep it from that.
     */
    allow_set_role: z.boolean().default(false),
  })
  .refine((all) => all.roles.length + all.statements.length > 0, {
    error: "must give the role something: roles or statements",
  })
  .refine((all) => Object.values(all.session_policies).every((policy) => isWithin(policy, all)), {
    error: "has a session policy with a role or a statement that the resource itself does not have",
  });

/** Settings after parsing, with the defaults in place. */
export type PostgresSettings = z.infer<typeof postgresSettings>;

/** What a role is given. */
export interface Rights {
  readonly roles: readonly string[];
  readonly statements: readonly string[];
}

/**
 * What one lease's role is given: the resource's rights, and of these only what every policy leaves.
 *
 * @throws {ProviderError} `order_refused` for a policy that the resource does not have
 */
export function rightsOf(settings: PostgresSettings, policies: readonly string[]): Rights {
  let { roles, statements }: Rights = settings;
  for (const name of policies) {
    const policy = Object.hasOwn(settings.session_policies, name) ? settings.session_policies[name] : undefined;
    if (!policy) throw new ProviderError("order_refused");
    const { roles: keptRoles, statements: keptStatements } = policy;
    if (keptRoles) roles = roles.filter((role) => keptRoles.includes(role));
    if (keptStatements) statements = statements.filter((statement) => keptStatements.includes(statement));
  }
  return { roles, statements };
}

/** Whether nothing but the network of this machine lies between. */
function isLocal(host: string): boolean {
  return host.startsWith("/") || host === "localhost" || host === "::1" || /^127(?:\.\d{1,3}){3}$/.test(host);
}

/** TLS towards the database, and what clients are told; undefined where there is none. */
export function tlsOf(settings: PostgresSettings): Exclude<PostgresSettings["tls"], false | undefined> | undefined {
  if (settings.tls === undefined) return isLocal(settings.host) ? undefined : { sslmode: "verify-full" };
  return settings.tls === false ? undefined : settings.tls;
}

function isWithin(
  policy: z.infer<typeof policyValue>,
  all: { readonly roles: readonly string[]; readonly statements: readonly string[] },
): boolean {
  return (
    (policy.roles ?? []).every((role) => all.roles.includes(role)) &&
    (policy.statements ?? []).every((statement) => all.statements.includes(statement))
  );
}
