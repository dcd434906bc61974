/** A server, a second replica of it, and logins of a real PostgreSQL that it may rotate; each test has its own. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after } from "node:test";
import pg from "pg";
import { withDatabase } from "../support/database.ts";
import { databaseProxy } from "../support/database-proxy.ts";
import { aheadOfServers } from "../support/hand-clock.ts";
import { holdLock } from "../support/held-lock.ts";
import { usualTrust, world, type Answer } from "../support/world.ts";
import { placeOf } from "./providers/postgres-stage.ts";

const cleanups: (() => Promise<void>)[] = [];
after(async () => {
  for (const clean of cleanups) await clean();
});
export const w = await world({ after }, { trust: usualTrust, start: aheadOfServers() });
export const second = await w.replica();
const tag = randomBytes(5).toString("hex");
/** The owner's URL of the database in which the logins make roles. */
export const upstreamUrl = withDatabase(w.databaseUrl, `orders_${tag}`);
/** What `tied` is set to act as. */
export const group = `readers_${tag}`;
/** Before the logins `cut`, `early` and `left`. */
export const wire = await databaseProxy({ after }, upstreamUrl);
const { host, port } = placeOf(upstreamUrl);

/** Each test has a login, a secret and a resource of its own: `<name>-db`, `<name>-admin`. */
export const NAMES = [
  "calm",
  "url",
  "busy",
  "full",
  "tied",
  "cut",
  "early",
  "race",
  "cli",
  "shared",
  "left",
  "due",
  "young",
] as const;
export type Name = (typeof NAMES)[number];
/** The password that each login had at the beginning. */
export const first = Object.fromEntries(
  NAMES.map((name) => [name, `CANARY-${randomBytes(12).toString("hex")}`]),
) as Record<Name, string>;
/** A login's role. */
export const login = (name: Name): string => `maker_${name}_${tag}`;

await w.admin(`create database orders_${tag}`);
await w.admin(`create role ${group} nologin`);
for (const name of NAMES) {
  await w.admin(`create role ${login(name)} login createrole password '${first[name]}'`);
  await w.admin(`grant ${group} to ${login(name)} with admin option`);
}
// Before the database's own: cleanups run first to last.
cleanups.push(async () => {
  wire.restore();
  const roles = await w.admin<{ rolname: string }>(
    "select rolname from pg_roles where rolname like $1 or rolname like 'ephor_release_bot_%' and pg_has_role(rolname, $2, 'member') and not rolsuper",
    [`%${tag}`, group],
  );
  await w.admin(`drop database orders_${tag} with (force)`);
  for (const { rolname } of roles) await w.admin(`drop owned by ${rolname} cascade`);
  for (const { rolname } of roles) await w.admin(`drop role ${rolname}`);
});

const postgres = (name: string, at: object = { host, port }): string =>
  JSON.stringify({ postgres: { ...at, database: `orders_${tag}`, secret: `${name}-admin`, roles: [group] } });
const settingsOf = (name: Name): string => {
  if (["cut", "early", "left"].includes(name)) return postgres(name, wired);
  if (name === "due") return postgres(name, { host, port, rotate_every: "1h" });
  return postgres(name, name === "young" ? { host, port, rotate_every: "2h" } : undefined);
};
const wired = { host: "127.0.0.1", port: Number(new URL(wire.url).port) };
await w.apply(
  `
resources:${NAMES.map((name) => `\n  ${name}-db: { credential: ${settingsOf(name)} }`).join("")}
  shared-elsewhere: { credential: ${postgres("shared", wired)} }
  crm-key: { credential: { static: { secret: crm-key, disclose: true } } }
  mixed-db: { credential: ${postgres("mixed")} }
  mixed-key: { credential: { static: { secret: mixed-admin, disclose: true } } }
grants:
  - { agent: release-bot, resource: crm-key, actions: [vend], residual: unlimited }
  - { agent: release-bot, resource: ephor, actions: [secrets] }
${NAMES.map((name) => `  - { agent: release-bot, resource: ${name}-db, actions: [vend] }`).join("\n")}
`,
  "vault.yaml",
);
for (const name of NAMES) await set(name, JSON.stringify({ username: login(name), password: first[name] }));

/** Sets a secret as an operator. */
export async function set(name: string, value: string): Promise<Answer> {
  const answer = await w.operator("PUT", `/v1/secrets/${name}-admin`, { value });
  assert.equal(answer.status, 200, answer.text);
  return answer;
}

/** Whether the server lets that login in; what went wrong otherwise than by the password is an error. */
export async function letsIn(name: Name, password: string): Promise<boolean> {
  const { database } = placeOf(upstreamUrl);
  const client = new pg.Client({ host, port, database, user: login(name), password });
  client.on("error", () => {});
  try {
    await client.connect();
    return true;
  } catch (error) {
    assert.equal((error as { code?: string }).code, "28P01");
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

export async function vend(name: Name, url = w.url): Promise<Answer> {
  const token = await w.self("release-bot", { audience: `${name}-db`, scope: `${name}-db:vend` });
  assert.equal(token.status, 200, token.text);
  return w.request("POST", `${url}/credentials/${name}-db`, {
    headers: { authorization: `Bearer ${String(token.body["access_token"])}` },
  });
}

export const rotate = (name: Name, url = w.url): Promise<Answer> =>
  w.operator("POST", `${url}/v1/secrets/${name}-admin/rotate`);
export const versionOf = async (name: Name): Promise<unknown> =>
  (await w.operator("GET", `/v1/secrets/${name}-admin`)).body["version"];
/** The version that waits, if there is one. */
export const waiting = (name: Name): Promise<unknown[]> =>
  w.admin(
    "select 1 from ephor.secret_versions v join ephor.secrets s using (name) where name = $1 and v.version > s.version and v.retired_at is null",
    [`${name}-admin`],
  );
/** What the ledger has of a secret's rotations, in order: decision and outcome. */
export async function told(name: Name): Promise<string[]> {
  const rows = await w.admin<{ decision: string; reason: string | null; body: string }>(
    "select decision, reason, body from ephor.events where type = 'secret.rotate' and strpos(body, $1) > 0 order by id",
    [`"secret":"${name}-admin"`],
  );
  return rows.map(({ decision, reason, body }) => {
    const { outcome, why, problem, code } = JSON.parse(body) as Record<string, string | undefined>;
    // How a socket ends is the system's word.
    const said = problem === "unreachable" ? undefined : code;
    return [decision, reason, why, outcome, problem, said].filter(Boolean).join(" ");
  });
}
/** What the server stores of the password. */
export const storedVerifier = async (name: Name): Promise<string | undefined> =>
  (await w.admin<{ v: string }>("select rolpassword as v from pg_authid where rolname = $1", [login(name)]))[0]?.v;
export async function until(what: string, look: () => Promise<boolean>): Promise<void> {
  for (let round = 0; round < 600; round++) {
    if (await look()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.fail(`never came: ${what}`);
}
/** Holds what every change takes. */
export const holdUpstream = () =>
  holdLock(upstreamUrl, "select pg_advisory_xact_lock(hashtextextended('ephor rotation', 0))");
