import type { AuditVerdict } from "../api/audit.ts";
import type { Db } from "../db/database.ts";
import type { LedgerProblem } from "./ledger-problem.ts";
import { checkHeads, checkOutsideHead, type HeadsFound, type VerifyHead } from "./verify-heads.ts";
import { checkStream, streamsOfLedger } from "./verify-stream.ts";

/** What checking the ledger found. */
export interface LedgerVerdict {
  readonly ok: boolean;
  readonly events: number;
  readonly streams: readonly { readonly stream: string; readonly lastSeq: number; readonly ok: boolean }[];
  readonly heads: number;
  /** The last head, 0 before the first. */
  readonly headSeq: number;
  /** Whole seconds since the epoch. */
  readonly lastHeadAt: number | undefined;
  /** The first one of {@link problems}. */
  readonly problem?: LedgerProblem;
  readonly problems: readonly LedgerProblem[];
}

/** Problems that are told; one is enough to distrust the rest. */
const MAX_PROBLEMS = 20;

/**
 * Recomputes the ledger from its first event: the hash of every event, the chain of every stream, the signed heads, and a
 * head that was kept elsewhere. Reads in pages; keeps in memory one entry for each stream. What was recorded after the last
 * head (at most some seconds) is tied by hashes only: whoever owns the database could have rewritten just that.
 *
 * @param options.verifyHead the payload of a compact JWS `ephor-head+jwt` when a record key signed it, else undefined
 * @param options.outsideHead a head from outside the database: only with one are a cut end and a ledger replaced as a whole seen
 * @see security.md A-AUD-03, INV-13
 */
export async function verifyLedger(
  db: Db,
  options: { verifyHead: VerifyHead; outsideHead?: string | undefined },
): Promise<LedgerVerdict> {
  const heads = await checkHeads(db, options.verifyHead);
  const outside =
    options.outsideHead === undefined ? undefined : await checkOutsideHead(db, options.verifyHead, options.outsideHead);
  const problems: LedgerProblem[] = [];
  const streams: LedgerVerdict["streams"][number][] = [];
  let events = 0;
  for await (const stream of streamsOfLedger(db)) {
    const found = await checkStream(db, stream, coverage(heads, stream.id));
    events += found.events;
    streams.push({ stream: stream.id, lastSeq: found.lastSeq, ok: found.problem === undefined });
    if (found.problem && problems.length < MAX_PROBLEMS) problems.push(found.problem);
  }
  // A bad row says more than the head that does not fit it, so rows come first.
  for (const problem of [heads.problem, missing(heads, streams), outside]) if (problem) problems.push(problem);
  const [problem] = problems;
  return {
    ok: problem === undefined,
    events,
    streams,
    heads: heads.count,
    headSeq: heads.seq,
    lastHeadAt: heads.iat,
    problems,
    ...(problem && { problem }),
  };
}

/** The verdict as `GET /v1/audit/verify` answers it. */
export function auditVerdictOf(verdict: LedgerVerdict): AuditVerdict {
  return {
    ok: verdict.ok,
    events: verdict.events,
    streams: verdict.streams.map(({ stream, lastSeq, ok }) => ({ stream, last_seq: lastSeq, ok })),
    heads: verdict.heads,
    ...(verdict.lastHeadAt !== undefined && { last_head_at: new Date(verdict.lastHeadAt * 1000).toISOString() }),
    problems: verdict.problems.map(({ id, detail, ...rest }) => ({
      ...rest,
      detail: id === undefined ? detail : `${id}: ${detail}`,
    })),
  };
}

/** Up to where heads name a stream. Where the heads themselves are bad, nothing is concluded from them. */
function coverage(heads: HeadsFound, stream: string): { namedSeq: number; headAt: number } | undefined {
  if (heads.problem || heads.iat === undefined) return undefined;
  return { namedSeq: heads.named.get(stream) ?? 0, headAt: heads.iat };
}

/** A stream that heads name and that is gone altogether. */
function missing(heads: HeadsFound, streams: LedgerVerdict["streams"]): LedgerProblem | undefined {
  if (heads.problem) return undefined;
  const there = new Set(streams.map((stream) => stream.stream));
  for (const [stream, seq] of heads.named) {
    if (!there.has(stream)) return { stream, seq, kind: "truncated", detail: "a stream that heads name is gone" };
  }
  return undefined;
}
