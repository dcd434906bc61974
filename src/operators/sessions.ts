import { deathKeys } from "../core/kill/keys.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Operator } from "../core/trust/model.ts";
import type { Person } from "../core/trust/person.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { sha256Base64url, sha256Hex } from "../system/hash.ts";
import { randomToken } from "../system/random.ts";
import { operatorKeyHash } from "./operator-key.ts";

/** Bounds of a session, each with its reason. */
const LIMITS = {
  /** A day's work; then one signs in again, however busy. */
  seconds: 8 * 3_600,
  /** Whoever left the desk is signed out. */
  idleSeconds: 1_800,
  /** Of one person or key; a new one ends the oldest, so that nobody fills the table. */
  perPerson: 20,
  /** 256 bits: nothing to guess, and a plain SHA-256 protects it at rest. */
  randomBytes: 32,
};

/** What a session's cookie may hold. */
const TOKEN = /^[A-Za-z0-9_-]{43}$/;

/** Who is signed in. */
export type SignedIn =
  | { readonly kind: "key"; readonly operatorId: string }
  | { readonly kind: "person"; readonly person: Person };

/** A session that stands. */
export interface Session {
  readonly who: SignedIn;
  /** Which operator that is, by the trust objects as they are now; undefined for the key, and for a person who is none. */
  readonly operator: Operator | undefined;
  /** This human was killed, now or since the sign-in: an operator stays signed in (CONTRACT §6), and decides nothing. */
  readonly isKilled: boolean;
  /** Proves to us that a form is one of our pages; bound to this session, and says nothing about its cookie. */
  readonly csrf: string;
  readonly openedAt: EpochSeconds;
  /** At the latest; sooner when nobody uses it. */
  readonly expiresAt: EpochSeconds;
}

/** Sessions of people who signed in. Nothing about one is kept in memory. */
export interface Sessions {
  /** Opens one, under a new id whatever the browser held; the one it held ends. @returns the `Set-Cookie` value */
  open(who: OpeningOrder, cookies: string | undefined): Promise<string>;
  /**
   * Whose request this is, asked of the database and of the trust objects each time: a session ends with its time, with the
   * key that opened it, with the issuer of its person, and with a kill of somebody who is no operator.
   *
   * @param cookies the `Cookie` header
   */
  find(cookies: string | undefined): Promise<Session | undefined>;
  /** Ends one, or all of whoever holds it. @returns the `Set-Cookie` value that takes it from the browser */
  close(cookies: string | undefined, which: "this" | "all"): Promise<string>;
}

/**
 * Who signed in: a key by its text, a person with the URL of the issuer where that was. The session ends with that key, and when
 * the issuer's name is given to another issuer, whose people are others.
 */
export type OpeningOrder =
  | { readonly kind: "key"; readonly operatorId: string; readonly key: string }
  | { readonly kind: "person"; readonly person: Person; readonly issuerUrl: string };

/** A person as a session's row has them. */
type SeenPerson = Person & { readonly issuerUrl?: string };

interface Row {
  kind: "key" | "person";
  who: string;
  person: SeenPerson | null;
  killed: boolean;
  created_at: number;
  expires_at: number;
}

/** @param deps.isSecure whether browsers reach us by https; only a loopback http issuer is without */
export function createSessions(deps: {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly trust: () => TrustIndex;
  readonly isSecure: boolean;
}): Sessions {
  const { db, clock, trust, isSecure } = deps;
  // `__Host-`: no other host and no other path can have put it there (RFC 6265bis §4.1.3.2). It needs https.
  const name = isSecure ? "__Host-ephor" : "ephor";
  // Strict: a link from elsewhere brings nobody in; the console makes a step of its own out of it.
  const cookie = (value: string, more = ""): string =>
    `${name}=${value}; Path=/; HttpOnly; SameSite=Strict${isSecure ? "; Secure" : ""}${more}`;
  return {
    async open(order, cookies) {
      const token = randomToken(LIMITS.randomBytes);
      const now = clock.now();
      const held = tokenOf(cookies, name);
      await db.query(OPEN, [
        sha256Hex(token),
        order.kind,
        whoOf(order),
        order.kind === "key" ? operatorKeyHash(order.key) : null,
        order.kind === "person"
          ? JSON.stringify({ ...order.person, issuerUrl: order.issuerUrl } satisfies SeenPerson)
          : null,
        order.kind === "person" ? killKeysOf(order.person) : [],
        now,
        now + LIMITS.seconds,
        held === undefined ? null : sha256Hex(held),
        LIMITS.perPerson,
      ]);
      return cookie(token);
    },
    async find(cookies) {
      const token = tokenOf(cookies, name);
      if (token === undefined) return undefined;
      const now = clock.now();
      const [row] = await db.query<Row>(FIND, [sha256Hex(token), now, now - LIMITS.idleSeconds]);
      const who = row && signedIn(row);
      if (row === undefined || who === undefined || !isKnown(trust(), row)) return undefined;
      const operator = who.kind === "person" ? trust().operatorOf(who.person) : undefined;
      if (row.killed && operator === undefined) return undefined;
      const { created_at: openedAt, expires_at: expiresAt } = row;
      return { who, operator, isKilled: row.killed, csrf: csrfOf(token), openedAt, expiresAt };
    },
    async close(cookies, which) {
      const token = tokenOf(cookies, name);
      if (token !== undefined) await db.query(which === "all" ? CLOSE_ALL : CLOSE, [sha256Hex(token)]);
      return cookie("", "; Max-Age=0");
    },
  };
}

const OPEN = `with ended as (
    delete from ephor.sessions where id = $9 or id in (
      select id from ephor.sessions where who = $3 order by used_at desc, id offset $10::int - 1)
  ) insert into ephor.sessions (id, kind, who, key_hash, person, kill_keys, kill_epoch, created_at, used_at, expires_at)
  select $1, $2, $3, $4, $5::jsonb, $6::text[], g.epoch, $7, $7, $8 from ephor.gate g where g.id = 1`;

// One statement: what is looked at is what is used, and a session that was ended meanwhile is not found.
const FIND = `update ephor.sessions s set used_at = greatest(s.used_at, $2)
  where s.id = $1 and s.expires_at > $2 and s.used_at > $3
    and (s.kind <> 'key' or exists (
      select 1 from ephor.operators o where o.kind = 'key' and o.disabled_at is null and o.key_hash = s.key_hash))
  returning s.kind, s.who, s.person, s.created_at, s.expires_at,
    ephor.is_dead(s.kill_keys, array_fill(s.kill_epoch, array[cardinality(s.kill_keys)]), 0, $2) as killed`;

const CLOSE = "delete from ephor.sessions where id = $1";
const CLOSE_ALL = "delete from ephor.sessions where who = (select who from ephor.sessions where id = $1)";

/** The token in our cookie; none where it stands twice, for then somebody else put one there. */
function tokenOf(cookies: string | undefined, name: string): string | undefined {
  const found = (cookies ?? "")
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${name}=`))
    .map((pair) => pair.slice(name.length + 1));
  const [token] = found;
  return found.length === 1 && token !== undefined && TOKEN.test(token) ? token : undefined;
}

function csrfOf(token: string): string {
  return sha256Base64url(`ephor csrf ${token}`);
}

function whoOf(order: OpeningOrder): string {
  return order.kind === "key" ? `operator:${order.operatorId}` : `human:${order.person.sub}`;
}

function signedIn({ kind, who, person }: Row): SignedIn | undefined {
  if (kind === "key") return { kind, operatorId: who.slice("operator:".length) };
  return person === null ? undefined : { kind, person };
}

/** What a kill of the human names. `all` is not among them: whoever works on it must get in (CONTRACT §6). */
function killKeysOf({ issuer, sub, claims }: Person): string[] {
  return deathKeys.ofSubject({ type: "human", issuer, sub, claims });
}

/** A person is known by an issuer that signs people in, while it is the one where he signed in. */
function isKnown(trust: TrustIndex, { kind, person }: Row): boolean {
  if (kind === "key" || person === null) return kind === "key";
  const issuer = trust.issuerByName(person.issuer);
  return issuer?.identifies === "humans" && issuer.clientId !== undefined && issuer.url === person.issuerUrl;
}
