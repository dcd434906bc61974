import { createHash, sign } from "node:crypto";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { createGate, type Gate } from "../../src/authz/gate.ts";
import type { Ask } from "../../src/authz/ask.ts";
import { HEAD_LIMITS, type HeadClaims } from "../../src/audit/head-claims.ts";
import { createHeads, latestHead } from "../../src/audit/heads.ts";
import { createRecorder, type Recorder } from "../../src/audit/recorder.ts";
import { verifyLedger, type LedgerVerdict } from "../../src/audit/verify.ts";
import { readJws } from "../../src/core/token/jws.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { verifyJwsSignature } from "../../src/system/jws-signature.ts";
import { ulid } from "../../src/system/random.ts";
import { testDatabase, type Cleanup } from "../support/database.ts";
import { handClock } from "../support/hand-clock.ts";

export const START = 1_795_312_800;
export const ISSUER = "https://sts.acme.example";

/** A database with writers, heads signed by a key of its own, and the check of all of it. */
export async function ledgerWorld(t: Cleanup) {
  const database = await testDatabase(t);
  const hand = handClock(START);
  const clock = createDatabaseClock(hand);
  const { db } = database;
  const log = createLog({ level: "silent" });
  const signer = headSigner();
  const beat = (replica: string) =>
    database.admin(
      `insert into ephor.replicas (id, started_at_ms, beat_at_ms, version) values ($1, $2, $2, 'test')
       on conflict (id) do update set beat_at_ms = excluded.beat_at_ms`,
      [replica, clock.nowMs()],
    );
  const headsOf = (
    over: { sign?: (claims: HeadClaims) => string; onHead?: (head: { seq: number; jws: string }) => void } = {},
  ) => {
    const heads = createHeads({ db, clock, issuer: ISSUER, sign: signer.sign, ...over });
    t.after(() => heads.close().catch(() => {}));
    return heads;
  };
  const world = {
    ...database,
    hand,
    clock,
    signer,
    beat,
    headsOf,
    gate: (replica: string): Gate => createGate({ db, clock, replica }),
    recorder: (replica: string): Recorder => createRecorder({ db, clock, log, replica }),
    verify: (outsideHead?: string): Promise<LedgerVerdict> =>
      verifyLedger(db, { verifyHead: signer.verify, outsideHead }),
    /** One head now, whatever the time since the last. */
    async head(): Promise<string> {
      hand.advance(5);
      await headsOf().tick();
      return (await latestHead(db)) ?? "";
    },
    claims: (jws: string): HeadClaims =>
      JSON.parse(Buffer.from(jws.split(".")[1] ?? "", "base64url").toString()) as HeadClaims,
  };
  return world;
}

export type LedgerWorld = Awaited<ReturnType<typeof ledgerWorld>>;

/** A record key. */
export function headSigner() {
  const { publicKey, privateKey } = makeKeyPair("Ed25519");
  const header = Buffer.from(JSON.stringify({ typ: "ephor-head+jwt", alg: "Ed25519", kid: "record-1" })).toString(
    "base64url",
  );
  return {
    sign(claims: object): string {
      const input = `${header}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}`;
      return `${input}.${sign(null, Buffer.from(input), privateKey).toString("base64url")}`;
    },
    verify(jws: string): object | undefined {
      try {
        const read = readJws(jws, { maxBytes: HEAD_LIMITS.maxBytes, ownHeader: true });
        return read.header.typ === "ephor-head+jwt" && verifyJwsSignature("Ed25519", publicKey, read)
          ? read.payload
          : undefined;
      } catch {
        return undefined;
      }
    },
  };
}

/** A first token in a new task, as `sts/plan` would ask for it. */
export function ask(
  over: Partial<Ask> & { agent?: string; txn?: string; jti?: string; sub?: string; facts?: Ask["event"]["facts"] } = {},
): Ask {
  const {
    agent = "triage-bot",
    txn = ulid(START * 1000),
    jti = ulid(START * 1000),
    sub = `agent|${agent}`,
    facts,
    ...rest
  } = over;
  const keys = [`agent:${agent}`, `txn:${txn}`, `jti:${jti}`];
  const kill = { keys, epochs: keys.map(() => null) };
  return {
    action: "token.issue",
    target: "https://billing.acme.example",
    actor: agent,
    trustVersion: 1,
    event: {
      type: "token.issue",
      agent,
      sub,
      resource: "billing",
      txn,
      jti,
      traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
      requestId: "req-1",
      facts: {
        aud: "https://billing.acme.example",
        scope: "billing:read_invoice",
        path: [agent],
        node: txn,
        opened: true,
        purpose: "pay the bills",
        exp: START + 45,
        grants: ["billing-read"],
        owner: `owner-of-${agent}@acme.example`,
        client: { method: "workload", issuer: "github", workload: "repo:acme/app" },
        ...facts,
      },
    },
    kill,
    newTask: {
      txn,
      opener: agent,
      subject: { type: "agent", agent, sub },
      sub,
      purpose: "pay the bills",
      ceiling: null,
      opened_at: START,
      deadline: START + 3600,
    },
    newNode: {
      id: txn,
      txn,
      parent: null,
      agent,
      path: [agent],
      ceiling: null,
      made_at: START,
      kill_keys: keys,
      kill_epochs: kill.epochs,
    },
    newHop: {
      jti,
      txn,
      node: txn,
      kind: "access",
      actor: agent,
      aud: "https://billing.acme.example",
      scopes: ["billing:read_invoice"],
      iat: START,
      exp: START + 45,
    },
    ...rest,
  };
}

/** The kill function, as `revocation` calls it. */
export async function strike(
  world: LedgerWorld,
  keys: readonly string[],
  id = `kill_${ulid(world.clock.nowMs())}`,
): Promise<string> {
  const event = world
    .recorder("r1")
    .draft({ type: "kill", agent: "operator:dana", facts: { kill: id, targets: keys, why: "test" } }, "granted");
  await world.db.query("select ephor.kill($1, $2::jsonb, $3::jsonb)", [
    world.clock.nowMs(),
    JSON.stringify({ id, actor: "operator:dana", reason: "test", keys }),
    JSON.stringify(event),
  ]);
  return id;
}

const LEDGER_TABLES = ["events", "batches", "streams", "heads"];

/** Keeps the ledger as it is; the answer puts it back, after damage was done. */
export async function keepLedger(world: LedgerWorld): Promise<() => Promise<void>> {
  await world.admin("create schema kept");
  for (const table of LEDGER_TABLES) await world.admin(`create table kept.${table} as table ephor.${table}`);
  const restore = [
    `truncate ${LEDGER_TABLES.map((table) => `ephor.${table}`).join(", ")}`,
    ...LEDGER_TABLES.map((table) => `insert into ephor.${table} select * from kept.${table}`),
  ];
  return async () => {
    await world.admin(`do $$ begin ${restore.join("; ")}; end $$`);
  };
}

/** What a thief who owns the database does: makes every hash of a stream fit again. */
export async function recompute(world: LedgerWorld, stream: string): Promise<void> {
  let prev = createHash("sha256").update(stream).digest();
  const batches = await world.admin<{ first_seq: string; last_seq: string }>(
    "select first_seq, last_seq from ephor.batches where stream = $1 order by first_seq",
    [stream],
  );
  for (const batch of batches) {
    const rows = await world.admin<{ leaf: Buffer }>(
      "select ephor.leaf(body, decision, reason) as leaf from ephor.events where stream = $1 and seq between $2 and $3 order by seq",
      [stream, batch.first_seq, batch.last_seq],
    );
    const hash = createHash("sha256")
      .update(Buffer.concat([prev, ...rows.map((row) => row.leaf)]))
      .digest();
    await world.admin("update ephor.batches set prev = $3, hash = $4 where stream = $1 and first_seq = $2", [
      stream,
      batch.first_seq,
      prev,
      hash,
    ]);
    prev = hash;
  }
  await world.admin(
    "update ephor.streams set hash = $2, seq = coalesce((select max(seq) from ephor.events where stream = $1), 0) where id = $1",
    [stream, prev],
  );
}

/** Two gates, notes, control; batches of one and of several; a head in between and one at the end, which is answered. */
export async function written(world: LedgerWorld): Promise<string> {
  const [first, second] = [world.gate("r1"), world.gate("r2")];
  const recorder = world.recorder("r1");
  for (const replica of ["r1", "r2"]) await world.beat(replica);
  await first.submit(ask({ txn: "t1", jti: "j1" }));
  await Promise.all([first.submit(ask()), first.submit(ask()), first.submit(ask())]);
  await second.submit(ask());
  await recorder.refused(
    { type: "token.issue", agent: "triage-bot", jti: "j1", facts: { scope: "a:b" } },
    "scope_not_granted",
  );
  await world.head();
  await strike(world, ["agent:triage-bot"]);
  await first.submit(ask());
  await second.submit(ask({ agent: "other-bot" }));
  await recorder.noted({ type: "audit.read", agent: "operator:dana", facts: {} });
  return await world.head();
}
