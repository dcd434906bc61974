/** The ways into `POST /token` for a workload's token: a check that one of them has, its siblings must have too. */
import assert from "node:assert/strict";
import {
  ASSERTION_TYPE,
  ID_TOKEN_TYPE,
  JWT_BEARER,
  JWT_TYPE,
  TOKEN_EXCHANGE,
  type Answer,
  type Form,
  type World,
} from "../support/world.ts";
import { assertFace, granted, hops, refused, type Refusal } from "./refusals.ts";

export const BILLING = "https://billing.acme.example";

/** One place where a workload's token can be put. */
export interface Door {
  readonly name: string;
  /** What a bad token is called here (RFC 8693 §2.2.2, RFC 7523 §3.1 and §3.2). */
  readonly error: "invalid_request" | "invalid_client" | "invalid_grant";
  /** Sends it, asking for what `door-bot` may have. `more` is added or replaces; undefined removes. `base` is another replica's URL. */
  send(token: string, more?: Form, at?: { base?: string; headers?: Record<string, string> }): Promise<Answer>;
}

/** An agent of the workloads' issuer that may read invoices, for itself and for any human. */
const DOOR_TRUST = `
agents:
  door-bot: { owner: dana@acme.example, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:door-bot" } }] }
grants:
${doorGrants("door-bot")}
`;

/** What makes an agent fit through every door. */
export function doorGrants(agent: string): string {
  return `
  - { name: ${agent}-self, agent: ${agent}, resource: billing, actions: [read_invoice] }
  - { name: ${agent}-for-humans, agent: ${agent}, resource: billing, actions: [read_invoice], on_behalf_of: { issuer: okta } }`;
}

/** Applies the trust of `door-bot` and opens all doors. */
export async function openDoors(w: World): Promise<readonly Door[]> {
  await w.apply(DOOR_TRUST, "doors.yaml");
  return doorsOf(w);
}

/** The doors of a world, for agents of one's own. */
export function doorsOf(w: World): readonly Door[] {
  const wanted = { resource: BILLING, scope: "billing:read_invoice" };
  const door = (name: string, error: Door["error"], form: (token: string) => Form): Door => ({
    name,
    error,
    send: (token, more, { base = "", headers = {} } = {}) =>
      w.post(`${base}/token`, { ...form(token), ...wanted, ...more }, headers),
  });
  return [
    door("subject_token", "invalid_request", (token) => ({
      grant_type: TOKEN_EXCHANGE,
      subject_token: token,
      subject_token_type: JWT_TYPE,
    })),
    door("actor_token", "invalid_request", (token) => ({
      grant_type: TOKEN_EXCHANGE,
      subject_token: w.human("00u-door"),
      subject_token_type: ID_TOKEN_TYPE,
      actor_token: token,
      actor_token_type: JWT_TYPE,
    })),
    door("client_assertion", "invalid_client", (token) => ({
      grant_type: "client_credentials",
      client_assertion: token,
      client_assertion_type: ASSERTION_TYPE,
    })),
    door("assertion", "invalid_grant", (token) => ({ grant_type: JWT_BEARER, assertion: token })),
  ];
}

/** Asserts over all doors. `make` makes the token anew for each, at the time of its request. */
export interface EveryDoor {
  /** Each refuses in its own words; one of them, in turn, is looked up in the ledger, where strangers' refusals share an event. */
  refuse(reason: Refusal["reason"], make: () => string, label: string): Promise<void>;
  grant(make: () => string, label: string): Promise<void>;
}

/** @param base URL of another replica */
export function everyDoor(w: World, doors: readonly Door[], base = ""): EveryDoor {
  let turn = 0;
  return {
    async refuse(reason, make, label) {
      const [first, ...others] = [...doors.slice(turn), ...doors.slice(0, turn)];
      turn = (turn + 1) % doors.length;
      assert.ok(first);
      await refused(
        w,
        { error: first.error, reason },
        () => first.send(make(), {}, { base }),
        `${first.name}: ${label}`,
      );
      const before = await hops(w);
      const answers = await Promise.all(others.map((door) => door.send(make(), {}, { base })));
      for (const [at, answer] of answers.entries()) {
        const door = others[at] as Door;
        assertFace(answer, { error: door.error, label: `${door.name}: ${label}` });
      }
      assert.equal(await hops(w), before, label);
    },
    async grant(make, label) {
      for (const door of doors) granted(await door.send(make(), {}, { base }), `${door.name}: ${label}`);
    },
  };
}
