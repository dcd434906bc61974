import { text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** What all replicas on this database must agree on and nobody configured, by name: `issuer`. */
export const house = ephor.table("house", { name: text().primaryKey(), value: text().notNull() });
