import type { Config } from "../config.ts";
import type { Db } from "../db/database.ts";

/**
 * The issuer that all replicas on one database speak as. Where nobody configured one, the first start's default is
 * remembered, so that a second `npm start` on another port issues the same tokens and accepts the first one's.
 */
export async function agreedIssuer(config: Config, db: Db): Promise<string> {
  if (config.isIssuerGiven) return config.issuer;
  await db.query("insert into ephor.house (name, value) values ('issuer', $1) on conflict (name) do nothing", [
    config.issuer,
  ]);
  const [row] = await db.query<{ value: string }>("select value from ephor.house where name = 'issuer'");
  return row?.value ?? config.issuer;
}
