import { createHmac } from "node:crypto";
import { askerKilled, askerParam, type Asker } from "../core/kill/asker.ts";
import type { Permit, SealedSecret } from "../core/permit.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Db } from "../db/database.ts";
import { createLane } from "../db/lane.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Envelope } from "./envelope.ts";
import type { Place } from "./place.ts";
import type { SealedColumn } from "./rewrap.ts";
import type { SecretBytes } from "./secret-bytes.ts";

/** What may be known of a secret. The value is never part of it. */
export interface SecretFacts {
  readonly name: string;
  readonly owner: string;
  readonly version: number;
  /** Keyed hash of the value: the same for the same value, and tells nothing else. */
  readonly fingerprint: string;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly updatedBy: string;
}

/** There is no secret of this name, or not this version of it. The name is all it tells. */
export class SecretMissingError extends Error {
  readonly secret: string;

  constructor(name: string) {
    super(`the vault has no secret "${name}"; set it with: ephor secret set ${name}`);
    this.name = "SecretMissingError";
    this.secret = name;
  }
}

/** A value that two operators set at the same moment is tried again this often. */
const PUT_ATTEMPTS = 3;

/** Sealed secrets. No function answers a value but `open`, and that one takes a permit. */
export interface Secrets {
  /**
   * A new version. The caller still owns, and wipes, `value`.
   *
   * @param order.event the ledger's row, written in the same step
   * @throws {InvalidTokenError} `killed`: whoever asks for it was
   */
  put(order: {
    name: string;
    owner?: string | undefined;
    value: SecretBytes;
    by: string;
    event: object;
    asker?: Asker | undefined;
  }): Promise<SecretFacts>;
  describe(name: string): Promise<SecretFacts | undefined>;
  list(page: { after: string; limit: number }): Promise<readonly SecretFacts[]>;
  /** @returns false when there was none. @throws {InvalidTokenError} `killed`, likewise */
  remove(name: string, event: object, asker?: Asker): Promise<boolean>;
  /**
   * The value of the version that counts, now or when the gate brought it.
   *
   * @throws {SecretMissingError}
   * @throws {DecryptError} `decrypt_failed`: never an older value, never an empty one (INV-22)
   * @throws {TemporarilyUnavailableError} `permit_lapsed`
   */
  open(permit: Permit, name: string, brought?: SealedSecret): Promise<{ value: SecretBytes; version: number }>;
}

/** Null: whoever asked was killed. */
interface Outcome {
  r: { outcome: string } | null;
}

interface SecretRow {
  name: string;
  owner: string;
  version: number;
  fingerprint: string;
  created_at: number;
  updated_at: number;
  updated_by: string;
}

const FACTS = `
  select s.name, s.owner, s.version, v.fingerprint, s.created_at, s.updated_at, s.updated_by
  from ephor.secrets s join ephor.secret_versions v on v.name = s.name and v.version = s.version`;

/** @param deps.fingerprintKey shared by all replicas, never shown */
export function createSecrets(deps: {
  db: Db;
  envelope: Envelope;
  clock: DatabaseClock;
  fingerprintKey: () => Uint8Array;
}): Secrets {
  const { db, envelope, clock } = deps;

  async function describe(name: string): Promise<SecretFacts | undefined> {
    const [row] = await db.query<SecretRow>(`${FACTS} where s.name = $1`, [name]);
    return row && factsOf(row);
  }

  // One statement for everyone who waits: whoever is busy opens the same few secrets again and again.
  const sealed = createLane((names: readonly string[]) => readSealedValues(db, names));
  return {
    describe,
    async put({ name, owner, value, by, event, asker }) {
      for (let attempt = 0; attempt < PUT_ATTEMPTS; attempt++) {
        const [current] = await db.query<{ version: number }>(
          "select max(version) as version from ephor.secret_versions where name = $1",
          [name],
        );
        const version = (current?.version ?? 0) + 1;
        const [row] = await db.query<Outcome>(
          "select case when ephor.asker_lives($4::jsonb, $1) then ephor.put_secret($1, $2::jsonb, $3::jsonb) end as r",
          [
            Math.floor(clock.nowMs()),
            JSON.stringify({
              name,
              owner: owner ?? null,
              version,
              sealed: await envelope.seal(value, placeOf(name, version)),
              fingerprint: fingerprintOf(deps.fingerprintKey(), name, value),
              by,
            }),
            JSON.stringify(event),
            askerParam(asker),
          ],
        );
        if (row?.r === null) throw askerKilled();
        if (row?.r.outcome === "put") return (await describe(name)) as SecretFacts;
      }
      throw new TemporarilyUnavailableError({ reason: "overloaded" });
    },
    async list({ after, limit }) {
      const rows = await db.query<SecretRow>(`${FACTS} where s.name > $1 order by s.name limit $2`, [after, limit]);
      return rows.map(factsOf);
    },
    async remove(name, event, asker) {
      const [row] = await db.query<Outcome>(
        "select case when ephor.asker_lives($4::jsonb, $1) then ephor.remove_secret($1, $2, $3::jsonb) end as r",
        [Math.floor(clock.nowMs()), name, JSON.stringify(event), askerParam(asker)],
      );
      if (row?.r === null) throw askerKilled();
      return row?.r.outcome === "removed";
    },
    async open(permit, name, brought) {
      if (permit.action !== "secret.open" || permit.target !== name)
        throw new TypeError("the permit is for something else");
      if (!permit.spend(clock.monotonicMs())) throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
      const row = brought ?? (await sealed.submit(name));
      if (!row) throw new SecretMissingError(name);
      return { value: await envelope.open(row.sealed, placeOf(name, row.version)), version: row.version };
    },
  };
}

async function readSealedValues(db: Db, names: readonly string[]): Promise<readonly (SealedSecret | undefined)[]> {
  const rows = await db.prepared<SealedSecret & { readonly name: string }>(
    "sealed values",
    `select s.name, s.version, v.sealed from ephor.secrets s
     join ephor.secret_versions v on v.name = s.name and v.version = s.version where s.name = any($1)`,
    [[...new Set(names)]],
  );
  const byName = new Map(rows.map((row) => [row.name, row]));
  return names.map((name) => byName.get(name));
}

/** Every version of every secret. */
export const SECRET_COLUMN: SealedColumn = {
  sort: "secret",
  table: "ephor.secret_versions",
  column: "sealed",
  // A name has no colon.
  id: "(name || ':' || version)",
  facts: { name: "name", version: "version" },
  place: ({ facts }) => placeOf(String(facts["name"]), Number(facts["version"])),
  label: ({ id }) => id,
};

/** Where a value belongs: it opens at its own name and version and nowhere else. */
export function placeOf(name: string, version: number): Place {
  return { table: "secret_versions", row: name, version, purpose: "value" };
}

/** Keyed hash of a value: the same for the same value of the same secret, and tells nothing else. */
export function fingerprintOf(key: Uint8Array, name: string, value: SecretBytes): string {
  return value.use((bytes) =>
    createHmac("sha256", key)
      .update(`ephor secret fingerprint\0${name}\0`)
      .update(bytes)
      .digest("base64url")
      .slice(0, 22),
  );
}

function factsOf(row: SecretRow): SecretFacts {
  return {
    name: row.name,
    owner: row.owner,
    version: row.version,
    fingerprint: row.fingerprint,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    updatedBy: row.updated_by,
  };
}
