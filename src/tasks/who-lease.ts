import type { Who } from "../api/who.ts";
import { bodyOf } from "../audit/query.ts";
import type { Db } from "../db/database.ts";
import { LEASE_COLUMNS, leaseOf, type LeaseRow } from "./lease-rows.ts";

/** Leases that one name may lead to in an answer: an upstream may give a name again. */
const MAX_MATCHES = 100;

/** What follows is the name of a session: `arn:…:assumed-role/ROLE/NAME`, and the principal `AROA…:NAME`. */
const AWS_SESSION = /^(?:arn:[a-z0-9-]+:sts::\d*:assumed-role\/[^/:]+\/|ARO[A-Z0-9]{10,40}:)([^/:]+)$/;
const HEX_SHA256 = /^[0-9a-f]{64}$/i;
/** 32 bytes in base64 or base64url. */
const BASE64_SHA256 = /^[A-Za-z0-9+/_-]{43}=?$/;

/** One thing that an id names, and who is behind it. */
type WhoMatch = Who["matches"][number];

interface Row extends LeaseRow {
  kind: WhoMatch["kind"];
  facts: { path: string[]; owner: string; sub: string; jti: string; purpose?: string };
  event_id: string | null;
  body: string | null;
}

/**
 * Leases behind a name at an upstream, newest first: the lease's own id, an AWS access key id, role session name or ARN of the
 * session, a database role, a certificate's serial or key id, or the SHA-256 of a token in hex or base64 (GitHub's audit log
 * has the latter). Neither leases nor their names are ever swept: it answers as long as the ledger does.
 */
export async function leaseMatches(db: Db, id: string): Promise<WhoMatch[]> {
  const rows = await db.query<Row>(
    `select ${LEASE_COLUMNS}, l.facts, named.kind, e.id as event_id, e.body
     from (
       select distinct on (found.lease) found.lease, found.kind from (
         select id as lease, 'lease' as kind, 0 as rank from ephor.leases where id = $1
         union all select lease, kind, 1 from ephor.lease_marks where value = any($2)
       ) found order by found.lease desc, found.rank, found.kind limit ${MAX_MATCHES}
     ) named join ephor.leases l on l.id = named.lease
     left join lateral (
       select e.id, e.body from ephor.events e
       where e.txn = l.txn and e.type = 'credential.vend' and e.decision = 'granted' and strpos(e.body, l.id) > 0
       order by e.id limit 1
     ) e on true
     order by l.id desc`,
    [id, namesOf(id)],
  );
  return rows.map(matchOf);
}

/** The forms in which the name may have been recorded. */
function namesOf(id: string): string[] {
  const session = AWS_SESSION.exec(id)?.[1];
  return [
    id,
    ...(session === undefined ? [] : [session]),
    ...(HEX_SHA256.test(id) ? [id.toLowerCase()] : []),
    ...(BASE64_SHA256.test(id) ? [Buffer.from(id, "base64").toString("hex")] : []),
  ];
}

function matchOf(row: Row): WhoMatch {
  const { facts } = row;
  const { grants, purpose = facts.purpose } = bodyOf(row.body ?? "") as { grants?: unknown; purpose?: unknown };
  const names = Array.isArray(grants) ? grants.filter((name) => typeof name === "string") : [];
  return {
    kind: row.kind,
    txn: row.txn,
    jti: facts.jti,
    sub: facts.sub,
    path: facts.path,
    owner: facts.owner,
    resource: row.resource,
    at: row.created_at,
    exp: row.ends_at,
    lease: leaseOf(row),
    ...(typeof purpose === "string" && { purpose }),
    ...(names.length > 0 && { grants: names }),
    ...(row.event_id !== null && { event_id: row.event_id }),
  };
}
