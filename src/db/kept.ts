import type { Db } from "./database.ts";

/**
 * The database over a connection of its own: what must be answered also while the pool is busy (INV-10). One statement at a
 * time, in the order in which they were asked.
 *
 * @param name of the connection, as the database shows it
 * @param use.kept it is connected before anybody asks
 */
export function keptFor(db: Db, name: string, use?: { readonly kept: boolean }): Pick<Db, "query"> {
  const connection = db.dedicated(name, use);
  const names = new Map<string, string>();
  let last: Promise<unknown> = Promise.resolve();
  /** A prepared statement is known by a name; our texts are few and fixed. */
  const nameOf = (sql: string): string => {
    const known = names.get(sql) ?? `kept_${names.size}`;
    names.set(sql, known);
    return known;
  };
  return {
    query<T extends object>(sql: string, params: readonly unknown[] = []): Promise<T[]> {
      const work = (): Promise<T[]> => connection.call<T>(nameOf(sql), sql, params);
      const turn = last.then(work, work);
      last = turn.catch(() => {});
      return turn;
    },
  };
}
