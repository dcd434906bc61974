import { askerKilled, askerParam, type Asker } from "../core/kill/asker.ts";
import type { TrustKind } from "../core/trust/model.ts";
import type { TrustBody } from "../core/trust/schema.ts";
import type { Db } from "../db/database.ts";

/** A trust object as it lies in the database. */
export interface StoredObject {
  readonly kind: TrustKind;
  readonly name: string;
  readonly source: string;
  readonly body: TrustBody;
  /** Trust version that wrote it. */
  readonly version: number;
}

/** A row of an outer join with the gate: an object, or none. */
type MaybeObject = { readonly at: number } & (StoredObject | { readonly kind: null });

/** Rows fetched at a time when everything is loaded. */
const LOAD_BATCH = 5_000;

/** Everything, of one version, in batches; the first batch comes also when there is nothing. */
export async function* loadAll(db: Db): AsyncGenerator<{ at: number; objects: StoredObject[] }> {
  const sql = `select g.trust_version as at, o.kind, o.name, o.source, o.body, o.version
    from ephor.gate g left join ephor.trust_objects o on true where g.id = 1`;
  for await (const rows of db.stream<MaybeObject>(sql, [], LOAD_BATCH)) {
    yield {
      at: rows[0]?.at ?? 0,
      objects: rows.filter((row): row is StoredObject & { at: number } => row.kind !== null),
    };
  }
}

/** What changed after a version, and the kill position by then; in one statement and so of one snapshot. */
export async function loadChanges(
  db: Db,
  after: number,
): Promise<{ at: number; epoch: number; objects: StoredObject[]; deletes: { kind: TrustKind; name: string }[] }> {
  const rows = await db.query<{
    at: number;
    epoch: number;
    kind: TrustKind | null;
    name: string;
    source: string | null;
    body: TrustBody;
    version: number;
  }>(
    `select g.trust_version as at, g.epoch, l.kind, l.name, o.source, o.body, o.version
     from ephor.gate g
     left join (select distinct kind, name from ephor.trust_log where version > $1) l on true
     left join ephor.trust_objects o on o.kind = l.kind and o.name = l.name
     where g.id = 1`,
    [after],
  );
  const changed = rows.filter((row): row is typeof row & { kind: TrustKind } => row.kind !== null);
  return {
    at: rows[0]?.at ?? after,
    epoch: rows[0]?.epoch ?? 0,
    objects: changed.filter((row): row is typeof row & { source: string } => row.source !== null),
    deletes: changed.filter((row) => row.source === null).map(({ kind, name }) => ({ kind, name })),
  };
}

/** The objects that have one of the names, and those of a source where one is given, with the version at which they are so. */
export async function readForPlan(
  db: Db,
  source: string | null,
  names: readonly { readonly kind: TrustKind; readonly name: string }[],
): Promise<{ version: number; objects: StoredObject[] }> {
  const rows = await db.query<MaybeObject>(
    `select g.trust_version as at, o.kind, o.name, o.source, o.body, o.version
     from ephor.gate g
     left join ephor.trust_objects o
       on o.source = $1 or (o.kind, o.name) in (select * from unnest($2::text[], $3::text[]))
     where g.id = 1`,
    [source, names.map(({ kind }) => kind), names.map(({ name }) => name)],
  );
  return {
    version: rows[0]?.at ?? 0,
    objects: rows.filter((row): row is StoredObject & { at: number } => row.kind !== null),
  };
}

/** What a source was last applied with, and whether it was ever applied with this. */
export async function readSource(
  db: Db,
  source: string,
  digest: string,
): Promise<{ current: string | undefined; wasApplied: boolean }> {
  const rows = await db.query<{ current: string | null; applied: boolean }>(
    `select (select digest from ephor.trust_sources where source = $1) as current,
            exists (select 1 from ephor.trust_digests where source = $1 and digest = $2) as applied`,
    [source, digest],
  );
  return { current: rows[0]?.current ?? undefined, wasApplied: rows[0]?.applied ?? false };
}

/** One object. */
export async function readObject(db: Db, kind: TrustKind, name: string): Promise<StoredObject | undefined> {
  const rows = await db.query<StoredObject>(
    "select kind, name, source, body, version from ephor.trust_objects where kind = $1 and name = $2",
    [kind, name],
  );
  return rows[0];
}

/** A page of objects by name, beginning after one. */
export async function listObjects(
  db: Db,
  kind: TrustKind,
  page: { after: string; limit: number },
): Promise<StoredObject[]> {
  return db.query<StoredObject>(
    "select kind, name, source, body, version from ephor.trust_objects where kind = $1 and name > $2 order by name limit $3",
    [kind, page.after, page.limit],
  );
}

/** What `ephor.apply_trust` takes. */
export interface ApplyCall {
  /** Milliseconds by the database's clock. */
  readonly at: number;
  readonly expected_version: number;
  readonly source: string | null;
  readonly digest: string | null;
  readonly upserts: readonly { kind: TrustKind; name: string; source: string; body: TrustBody }[];
  readonly deletes: readonly { kind: TrustKind; name: string }[];
  readonly kills: readonly { kind: "agent" | "issuer" | "resource" | "operator"; name: string }[];
  /** Whether somebody may do less by it: then it has a kill position, which replicas acknowledge. */
  readonly withdraws: boolean;
  /** A row of the ledger. */
  readonly event: object;
}

/** What `ephor.apply_trust` answers; a position where something was taken away. */
export interface TrustApplied {
  readonly outcome: "applied" | "stale";
  readonly version: number;
  readonly position?: number | null;
}

/**
 * Changes trust objects, records it and kills what was removed, in one step under the gate's exclusive lock.
 *
 * @throws {InvalidTokenError} `killed`: whoever asks for it was
 */
export async function applyTrust(db: Db, call: ApplyCall, asker: Asker | undefined): Promise<TrustApplied> {
  const rows = await db.query<{ result: TrustApplied | null }>(
    "select case when ephor.asker_lives($2::jsonb, $3) then ephor.apply_trust($1::jsonb) end as result",
    [JSON.stringify(call), askerParam(asker), call.at],
  );
  const result = rows[0]?.result;
  if (result === null) throw askerKilled();
  if (result === undefined) throw new TypeError("ephor.apply_trust answered nothing");
  return result;
}
