import { bodyOf } from "../audit/query.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { PlaceStatus } from "./state.ts";

/** An event that names a token, joined with the token's record while that is kept. */
export interface IssuedRow {
  readonly id: string;
  readonly type: string;
  readonly at_ms: number;
  readonly decision: string;
  readonly reason: string | null;
  readonly agent: string | null;
  readonly sub: string | null;
  readonly resource: string | null;
  readonly txn: string | null;
  readonly jti: string | null;
  readonly body: string;
  readonly kind: "access" | "hand_over" | "txn_token" | null;
  readonly hop_scopes: string[] | null;
  readonly iat: number | null;
  readonly dead: boolean;
}

/** The columns of {@link IssuedRow} for `events e left join hops h`. @param dead SQL that says whether a kill covers `h` */
export function issuedColumns(dead: string): string {
  return `e.id, e.type, e.at_ms, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.body,
    h.kind, h.scopes as hop_scopes, h.iat, (h.jti is not null and ${dead}) as dead`;
}

/** What the ledger tells of a token for ever, and its record while it is kept. */
export interface Issued {
  readonly kind: "access" | "hand_over" | "txn_token";
  readonly aud: string;
  readonly scopes: string[];
  readonly iat: EpochSeconds;
  readonly exp: EpochSeconds;
  readonly node: string | undefined;
  readonly nodeParent: string | undefined;
  readonly path: string[];
  readonly owner: string | undefined;
  readonly purpose: string | undefined;
  readonly grants: string[];
}

/** Reads the event of a token, or of the refusal of one. */
export function readIssued(row: IssuedRow): Issued {
  const body = bodyOf(row.body);
  const text = (name: string): string | undefined => (typeof body[name] === "string" ? body[name] : undefined);
  const texts = (name: string): string[] => {
    const value = body[name];
    return Array.isArray(value) ? value.filter((entry) => typeof entry === "string") : [];
  };
  const recordedAt = Math.floor((Date.parse(text("at") ?? "") || row.at_ms) / 1000);
  return {
    kind: row.kind ?? kindOf(row.resource, body),
    aud: text("aud") ?? row.resource ?? "",
    scopes: row.hop_scopes ?? scopesOf(text("scope")),
    iat: row.iat ?? recordedAt,
    exp: typeof body["exp"] === "number" ? body["exp"] : recordedAt,
    node: text("node"),
    nodeParent: text("node_parent"),
    path: texts("path"),
    owner: text("owner"),
    purpose: text("purpose"),
    grants: texts("grants"),
  };
}

/** @param place of the token's node: after its end no token of it is live, however young */
export function tokenStatus(
  token: { dead: boolean; exp: EpochSeconds },
  place: PlaceStatus | undefined,
  now: EpochSeconds,
): "live" | "ended" | "expired" | "killed" {
  if (token.dead) return "killed";
  if (token.exp <= now || place === undefined) return "expired";
  return place === "open" ? "live" : place;
}

function kindOf(resource: string | null, body: Record<string, unknown>): Issued["kind"] {
  if (typeof body["handed_over_to"] === "string") return "hand_over";
  return resource === "trust-domain" ? "txn_token" : "access";
}

/** The ledger cuts long strings: the last scope of such a list is not whole. */
function scopesOf(scope: string | undefined): string[] {
  const scopes = (scope ?? "").split(" ").filter(Boolean);
  return scope?.endsWith("…") ? scopes.slice(0, -1) : scopes;
}
