import type { Db } from "../db/database.ts";
import { sha256Base64url } from "../system/hash.ts";
import { readHeadClaims, type HeadClaims } from "./head-claims.ts";
import type { LedgerProblem } from "./ledger-problem.ts";

/** The payload of a compact JWS `ephor-head+jwt` when one of our record keys signed it, else undefined. */
export type VerifyHead = (jws: string) => object | undefined;

/** What the heads say, up to the first that does not fit. */
export interface HeadsFound {
  readonly count: number;
  readonly seq: number;
  /** When the last head was signed, whole seconds since the epoch. */
  readonly iat: number | undefined;
  /** The last position that heads give each stream. */
  readonly named: ReadonlyMap<string, number>;
  readonly problem?: LedgerProblem;
}

interface HeadRow {
  seq: number;
  at_ms: number;
  jws: string;
}

interface Position {
  readonly head: number;
  readonly stream: string;
  readonly seq: number;
  readonly hash: string;
}

/** Heads read at a time. */
const PAGE_ROWS = 100;

/** Checks signatures, order and links of the heads, and that each position they name is the end of a batch with that hash. */
export async function checkHeads(db: Db, verifyHead: VerifyHead): Promise<HeadsFound> {
  const named = new Map<string, number>();
  let before: { row: HeadRow; claims: HeadClaims } | undefined;
  let count = 0;
  const found = (problem?: LedgerProblem): HeadsFound => ({
    count,
    seq: before?.claims.seq ?? 0,
    iat: before?.claims.iat,
    named,
    ...(problem && { problem }),
  });
  for await (const rows of db.stream<HeadRow>("select seq, at_ms, jws from ephor.heads order by seq", [], PAGE_ROWS)) {
    const positions: Position[] = [];
    for (const row of rows) {
      const claims = readHeadClaims(verifyHead(row.jws));
      const problem = claims ? linkProblem(row, claims, before) : badSignature(row);
      if (!claims || problem) return found(problem);
      for (const [stream, [seq, hash]] of Object.entries(claims.streams)) {
        if (seq < (named.get(stream) ?? 0)) {
          return found({ head: row.seq, stream, seq, kind: "head_order", detail: "a head sets a stream back" });
        }
        named.set(stream, seq);
        positions.push({ head: row.seq, stream, seq, hash });
      }
      before = { row, claims };
      count += 1;
    }
    const problem = await positionProblem(db, positions);
    if (problem) return found(problem);
  }
  return found();
}

/** The head kept outside must be one of ours, and still be in its place. */
export async function checkOutsideHead(
  db: Db,
  verifyHead: VerifyHead,
  outsideHead: string,
): Promise<LedgerProblem | undefined> {
  const claims = readHeadClaims(verifyHead(outsideHead));
  if (!claims) return { kind: "anchor", detail: "the head kept outside is not signed by a record key of this service" };
  const [row] = await db.query<HeadRow>("select seq, at_ms, jws from ephor.heads where seq = $1", [claims.seq]);
  if (!row) return { kind: "anchor", head: claims.seq, detail: "the ledger ends before the head kept outside" };
  if (row.jws !== outsideHead) {
    return { kind: "anchor", head: claims.seq, detail: "the ledger holds another head than the one kept outside" };
  }
  return undefined;
}

function badSignature(row: HeadRow): LedgerProblem {
  return { head: row.seq, kind: "head_signature", detail: "the head is not signed by a record key of this service" };
}

function linkProblem(
  row: HeadRow,
  claims: HeadClaims,
  before: { row: HeadRow; claims: HeadClaims } | undefined,
): LedgerProblem | undefined {
  const bad = (detail: string): LedgerProblem => ({ head: row.seq, kind: "head_order", detail });
  if (row.seq !== (before?.row.seq ?? 0) + 1) return bad("heads before this one are missing");
  if (claims.seq !== row.seq) return bad("the head stands in another's place");
  if (claims.iat * 1000 !== row.at_ms) return bad("the head's time was changed");
  const prev = before ? sha256Base64url(before.row.jws) : null;
  return claims.prev === prev ? undefined : bad("the head does not follow the one before it");
}

/** Looks up the batches in which the streams should have stood. */
async function positionProblem(db: Db, positions: readonly Position[]): Promise<LedgerProblem | undefined> {
  if (positions.length === 0) return undefined;
  const rows = await db.query<{ n: number; last_seq: number | null; hash: string | null }>(
    `select p.n, b.last_seq, encode(b.hash, 'hex') as hash
     from unnest($1::text[], $2::bigint[]) with ordinality as p(stream, seq, n)
     left join lateral (
       select last_seq, hash from ephor.batches where stream = p.stream and first_seq <= p.seq order by first_seq desc limit 1
     ) b on true
     order by p.n`,
    [positions.map((position) => position.stream), positions.map((position) => position.seq)],
  );
  for (const [index, { head, stream, seq, hash }] of positions.entries()) {
    const row = rows[index];
    if (!row?.hash || row.last_seq === null || row.last_seq < seq) {
      return { head, stream, seq, kind: "truncated", detail: "the stream ends before where the head saw it" };
    }
    if (row.last_seq !== seq || Buffer.from(row.hash, "hex").toString("base64url") !== hash) {
      return { head, stream, seq, kind: "head_mismatch", detail: "the stream is not what the head saw" };
    }
  }
  return undefined;
}
