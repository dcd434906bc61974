import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Permit } from "../core/permit.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Envelope } from "./envelope.ts";
import type { SecretBytes } from "./secret-bytes.ts";
import { fingerprintOf, placeOf, SecretMissingError } from "./secrets.ts";

/** A value and its version. */
export interface OpenVersion {
  readonly value: SecretBytes;
  readonly version: number;
}

/**
 * Versions that wait: sealed before the upstream hears of them, so that no crash can lose one, and not used before they are made
 * the one that counts. A secret has one at most. A new value that an operator sets overtakes it.
 */
export interface NextVersions {
  /**
   * Seals it. The caller still owns, and wipes, `value`.
   *
   * @returns its version; undefined when there is no such secret, one waits already, or another was set this moment
   */
  hold(order: { name: string; value: SecretBytes; by: string }): Promise<number | undefined>;
  /**
   * The version that counts, and the one that waits.
   *
   * @throws {SecretMissingError | DecryptError}
   * @throws {TemporarilyUnavailableError} `permit_lapsed`
   */
  open(permit: Permit, name: string): Promise<{ present: OpenVersion; waiting: OpenVersion | undefined }>;
  /**
   * Ends the wait: from now on it counts, or it never will (its ciphertext stays, as that of every version).
   *
   * @param order.event the ledger's row, written in the same step
   * @returns false when it does not wait any more
   */
  settle(order: { name: string; version: number; counts: boolean; by: string; event: object }): Promise<boolean>;
  /**
   * As `settle`, and seals what waits from now on in the same step. The caller still owns, and wipes, `next`.
   *
   * @returns the version of `next`; undefined, and nothing done, when the other does not wait any more
   */
  follow(order: Parameters<NextVersions["settle"]>[0] & { next: SecretBytes }): Promise<number | undefined>;
  isWaiting(name: string): Promise<boolean>;
  /** Secrets of which one has waited since before then: whoever held it is gone. @param ms epoch milliseconds */
  waitingSince(ms: number): Promise<readonly string[]>;
}

interface VersionRow {
  version: number;
  sealed: unknown;
  counts: boolean;
}

interface NextVersionDeps {
  readonly db: Db;
  readonly envelope: Envelope;
  readonly clock: DatabaseClock;
  /** Shared by all replicas, never shown. */
  readonly fingerprintKey: () => Uint8Array;
}

/** Makes it. */
export function createNextVersions(deps: NextVersionDeps): NextVersions {
  const { db, envelope, clock } = deps;
  return {
    async hold(order) {
      const secret = await sealedLast(deps, order);
      const [row] = await db.query<{ held: boolean }>("select ephor.hold_secret($1, $2::jsonb) as held", [
        Math.floor(clock.nowMs()),
        JSON.stringify(secret),
      ]);
      return row?.held === true ? secret.version : undefined;
    },
    async open(permit, name) {
      if (permit.action !== "secret.open" || permit.target !== name)
        throw new TypeError("the permit is for something else");
      if (!permit.spend(clock.monotonicMs())) throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
      const rows = await db.query<VersionRow>(
        `select v.version, v.sealed, v.version = s.version as counts
         from ephor.secrets s join ephor.secret_versions v on v.name = s.name
         where s.name = $1 and (v.version = s.version or (v.version > s.version and v.retired_at is null))`,
        [name],
      );
      const opened = async (row: VersionRow): Promise<OpenVersion> => ({
        value: await envelope.open(row.sealed, placeOf(name, row.version)),
        version: row.version,
      });
      const counting = rows.find(({ counts }) => counts);
      const other = rows.find(({ counts }) => !counts);
      if (!counting) throw new SecretMissingError(name);
      const present = await opened(counting);
      try {
        return { present, waiting: other && (await opened(other)) };
      } catch (error) {
        present.value.wipe();
        throw error;
      }
    },
    async settle({ name, version, counts, by, event }) {
      const [row] = await db.query<{ settled: boolean }>(
        "select ephor.settle_secret($1, $2, $3, $4, $5, $6::jsonb) as settled",
        [Math.floor(clock.nowMs()), name, version, counts, by, JSON.stringify(event)],
      );
      return row?.settled === true;
    },
    async follow({ name, version, counts, by, event, next }) {
      const secret = await sealedLast(deps, { name, value: next, by });
      // The second only after the first, whose lock keeps everybody else out: while one waited, nobody could add a version.
      const [row] = await db.query<{ settled: boolean }>(
        `select settled, case when settled then ephor.hold_secret($1, $7::jsonb) end as held
         from (select ephor.settle_secret($1, $2, $3, $4, $5, $6::jsonb) as settled offset 0) s`,
        [Math.floor(clock.nowMs()), name, version, counts, by, JSON.stringify(event), JSON.stringify(secret)],
      );
      return row?.settled === true ? secret.version : undefined;
    },
    async isWaiting(name) {
      return (await db.query(`${WAITING} and v.name = $1`, [name])).length > 0;
    },
    async waitingSince(ms) {
      const rows = await db.query<{ name: string }>(`${WAITING} and v.created_at < $1 order by v.name`, [
        Math.floor(ms),
      ]);
      return rows.map(({ name }) => name);
    },
  };
}

/** As the version after the last, whatever became of that. */
async function sealedLast(
  { db, envelope, fingerprintKey }: NextVersionDeps,
  { name, value, by }: { name: string; value: SecretBytes; by: string },
) {
  const [last] = await db.query<{ version: number | null }>(
    "select max(version) as version from ephor.secret_versions where name = $1",
    [name],
  );
  const version = (last?.version ?? 0) + 1;
  return {
    name,
    version,
    sealed: await envelope.seal(value, placeOf(name, version)),
    fingerprint: fingerprintOf(fingerprintKey(), name, value),
    by,
  };
}

const WAITING = `select v.name from ephor.secret_versions v join ephor.secrets s on s.name = v.name
  where v.retired_at is null and v.version > s.version`;
