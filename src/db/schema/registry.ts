import { sql } from "drizzle-orm";
import { bigint, boolean, index, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** Issuers, agents, resources and grants as they are now. */
export const trustObjects = ephor.table(
  "trust_objects",
  {
    kind: text().notNull(),
    name: text().notNull(),
    source: text().notNull(),
    body: jsonb().notNull(),
    version: bigint({ mode: "number" }).notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.kind, t.name] }),
    index("trust_objects_source").on(t.source),
    // A kill by owner tells a name that nobody has from one that somebody has.
    index("trust_objects_owner")
      .on(sql`(${t.body} ->> 'owner')`)
      .where(sql`${t.kind} = 'agents'`),
  ],
);

/** What changed at which trust version; replicas apply it as deltas. */
export const trustLog = ephor.table(
  "trust_log",
  {
    version: bigint({ mode: "number" }).notNull(),
    kind: text().notNull(),
    name: text().notNull(),
    deleted: boolean().notNull(),
  },
  (t) => [primaryKey({ columns: [t.version, t.kind, t.name] })],
);

/** Every text that a source was ever applied with, so that a superseded one is known. */
export const trustDigests = ephor.table(
  "trust_digests",
  {
    source: text().notNull(),
    digest: text().notNull(),
    version: bigint({ mode: "number" }).notNull(),
    appliedAtMs: bigint({ mode: "number" }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.source, t.digest] })],
);

/** The latest text of each source. */
export const trustSources = ephor.table("trust_sources", {
  source: text().primaryKey(),
  digest: text().notNull(),
  version: bigint({ mode: "number" }).notNull(),
  appliedAtMs: bigint({ mode: "number" }).notNull(),
});
