import { exportEvents } from "../audit/export.ts";
import { createHeads } from "../audit/heads.ts";
import { queryEvents } from "../audit/query.ts";
import type { Recorder } from "../audit/recorder.ts";
import { auditVerdictOf, verifyLedger } from "../audit/verify.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import { checkTyp } from "../core/token/check.ts";
import { HEAD_LIMITS } from "../audit/head-claims.ts";
import { readJws } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Rooms } from "../http/rooms.ts";
import type { Keys } from "../keys/keys.ts";
import { createSweeper } from "../db/sweep.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Lifecycle } from "../system/lifecycle.ts";
import type { Log } from "../system/log.ts";
import { taskChain } from "../tasks/chain.ts";
import { openLeases } from "../tasks/open-leases.ts";
import { whoIs } from "../tasks/who.ts";
import type { Anchoring } from "./anchor.ts";
import { explained } from "./explain.ts";
import { actorOf } from "./wire.ts";

/** The reading side of the ledger, as the routes call it; and the heads and the sweeper that run beside it. */
export function createLedger(deps: {
  db: Db;
  clock: DatabaseClock;
  issuer: string;
  keys: Keys;
  recorder: Recorder;
  anchoring: Anchoring;
  lifecycle: Lifecycle;
  log: Log;
  trustVersion: () => number;
}): Rooms["ledger"] {
  const { db, clock, issuer, keys, recorder, anchoring, lifecycle, log } = deps;
  const heads = createHeads({
    db,
    clock,
    issuer,
    log,
    sign: (claims) => keys.attestor.sign(JWT_TYP.head, claims),
    onHead: (head) => anchoring.raise({ head }),
  });
  lifecycle.onStop("background", "heads", heads.close);
  const sweeper = createSweeper({ db, clock, log });
  lifecycle.onStop("background", "sweeper", sweeper.close);

  /** The payload of a head that one of our record keys signed. */
  const verifyHead = (jws: string): object | undefined => {
    try {
      const read = readJws(jws, { maxBytes: HEAD_LIMITS.maxBytes, ownHeader: true });
      checkTyp(read.header.typ, [JWT_TYP.head]);
      return keys.verifier.verifyRecord(read) ? read.payload : undefined;
    } catch (error) {
      if (error instanceof RefusedToken) return undefined;
      throw error;
    }
  };

  return {
    chain: (txn) => taskChain({ db, clock }, txn),
    who: (id) => whoIs({ db, clock }, id),
    leases: (query) => openLeases({ db, clock }, query),
    query: (query) => queryEvents(db, query),
    explain: (id) => explained({ db, trustVersion: deps.trustVersion }, id),
    async *export(query, call) {
      // Taking the whole ledger away is itself an event.
      await recorder.noted({
        type: "audit.read",
        agent: actorOf(call.caller),
        requestId: call.request.requestId,
        facts: { route: "GET /v1/audit/export", format: query.format },
      });
      yield* exportEvents(db, query);
    },
    verify: async () => auditVerdictOf(await verifyLedger(db, { verifyHead })),
  };
}
