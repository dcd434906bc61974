import type { Db } from "../db/database.ts";

/** Who writes down what an upstream gave in place of a secret, as `created_by` of its version. */
const BY_LEASE = "lease:";

/** The author of a version that came out of a mint. */
export function leaseAuthor(lease: string): string {
  return `${BY_LEASE}${lease}`;
}

/**
 * Whether a secret is there, and whether anybody gave it another value since a version. What an upstream put in its place while
 * it was used is the same secret still.
 *
 * @returns undefined where there is none
 */
export async function givenAnew(
  db: Db,
  name: string,
  since: number,
): Promise<{ readonly version: number; readonly isNew: boolean } | undefined> {
  const [row] = await db.query<{ version: number; is_new: boolean }>(
    `select s.version, exists (
       select 1 from ephor.secret_versions v
       where v.name = s.name and v.version > $2 and v.version <= s.version and v.created_by not like '${BY_LEASE}%'
     ) as is_new from ephor.secrets s where s.name = $1`,
    [name, since],
  );
  return row && { version: row.version, isNew: row.is_new };
}
