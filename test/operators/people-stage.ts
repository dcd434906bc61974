/** People who are signed in, as clients of `/v1`. */
import { createTrustIndex } from "../../src/core/trust/compiled.ts";
import type { Person } from "../../src/core/trust/person.ts";
import { createSessions } from "../../src/operators/sessions.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import type { Answer, World } from "../support/world.ts";

/** Somebody's session, and what a page of ours would send with it. */
export interface SignedInClient {
  readonly cookie: string;
  readonly csrf: string;
  /** With the proof and from our own origin, unless `headers` say otherwise. */
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
}

/** Makes `okta` of the usual trust an issuer at which people sign in. */
export const withConsole = (trust: string): string =>
  trust.replace("identifies: humans,", "identifies: humans, client_id: console,");

/** Somebody of `okta` who has just signed in, or did so some seconds ago. */
export async function signedIn(
  w: World,
  sub: string,
  o: { ago?: number; claims?: Record<string, unknown> } = {},
): Promise<SignedInClient> {
  const trust = createTrustIndex();
  const none = { agents: [], resources: [], grants: [], operators: [], channels: [] };
  const okta = { name: "okta", audience: [], internal: true, singleUse: false, clientId: "console", url: w.humans.url };
  trust.apply({ version: 1, deletes: [], upserts: { ...none, issuers: [{ ...okta, identifies: "humans" }] } });
  const sessions = createSessions({
    db: w.db,
    clock: createDatabaseClock(w.clock),
    trust: () => trust,
    isSecure: false,
  });
  const person: Person = {
    issuer: "okta",
    sub: `okta|${sub}`,
    authTime: w.now() - (o.ago ?? 0),
    email: undefined,
    claims: { sub, ...o.claims },
  };
  const [cookie = ""] = (await sessions.open({ kind: "person", person, issuerUrl: w.humans.url }, undefined)).split(
    ";",
  );
  const csrf = (await sessions.find(cookie))?.csrf ?? "";
  return {
    cookie,
    csrf,
    send: (method, path, body, headers = {}) =>
      w.request(method, path, {
        ...(body !== undefined && { body }),
        headers: { cookie, "ephor-csrf": csrf, origin: new URL(w.server.issuer).origin, ...headers },
      }),
  };
}
