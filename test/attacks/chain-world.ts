/** The requests of chains: humans carried, hand-overs, redemptions, handles; and a world in which each refusal is told apart. */
import assert from "node:assert/strict";
import { decodeJwt, type JWTPayload } from "jose";
import {
  ACCESS_TOKEN_TYPE,
  ASSERTION_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_TYPE,
  TASK_TYPE,
  TOKEN_EXCHANGE,
  world,
  type Answer,
  type Form,
  type World,
} from "../support/world.ts";
import type { Cleanup } from "../support/database.ts";
import { granted } from "./refusals.ts";

export const BILLING = "https://billing.acme.example";
export const READ_INVOICE = { resource: BILLING, scope: "billing:read_invoice" };

/** A world with words for what agents ask each other and us. */
export interface ChainWorld extends World {
  /** The audience of a hand-over to an agent. */
  agentAudience(name: string): string;
  /** An agent with a human's token. */
  onBehalf(agent: string, human: string, form: Form): Promise<Answer>;
  /** An agent with a token that was handed over to it. */
  redeem(agent: string, token: string, form: Form): Promise<Answer>;
  /** An agent with a task handle. */
  byHandle(agent: string, handle: string, form: Form): Promise<Answer>;
  /** What a resource server hears of a token. */
  introspect(token: string, form?: Form): Promise<Answer>;
  isActive(token: string): Promise<boolean>;
  kill(what: Record<string, unknown>): Promise<Answer>;
  /** A token handed by triage-bot to summary-bot, for a human. */
  handed(human?: string): Promise<string>;
}

/**
 * Starts a world. Each request comes from a network of its own, so that every refusal of a stranger has an event of its own
 * (A-AUD-07 counts the others).
 */
export async function chainWorld(t: Cleanup, options: Parameters<typeof world>[1] = {}): Promise<ChainWorld> {
  const w = await world(t, { ...options, env: { EPHOR_TRUSTED_PROXIES: "127.0.0.1", ...options.env } });
  return withChains(w);
}

/** The words, over any world. */
export function withChains(w: World): ChainWorld {
  let count = 0;
  const post: World["post"] = (path, form, headers = {}) => {
    count += 1;
    return w.post(path, form, { "x-forwarded-for": `10.${(count >> 8) & 255}.${count & 255}.9`, ...headers });
  };
  const exchange = (agent: string, subject: Form, form: Form): Promise<Answer> =>
    post("/token", {
      grant_type: TOKEN_EXCHANGE,
      actor_token: "actor_token" in form ? undefined : w.workload(agent),
      actor_token_type: JWT_TYPE,
      ...subject,
      ...form,
    });
  const made: ChainWorld = {
    ...w,
    post,
    agentAudience: (name) => `${w.server.issuer}/agents/${name}`,
    self: (agent, { token, ...form }) =>
      post("/token", {
        grant_type: TOKEN_EXCHANGE,
        subject_token: token ?? w.workload(agent),
        subject_token_type: JWT_TYPE,
        ...form,
      }),
    onBehalf: (agent, human, form) =>
      exchange(agent, { subject_token: human, subject_token_type: ID_TOKEN_TYPE }, form),
    redeem: (agent, token, form) =>
      exchange(agent, { subject_token: token, subject_token_type: ACCESS_TOKEN_TYPE }, form),
    byHandle: (agent, handle, form) => exchange(agent, { subject_token: handle, subject_token_type: TASK_TYPE }, form),
    introspect: (token, form = {}) =>
      post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET, ...form }),
    async isActive(token) {
      const answer = await made.introspect(token);
      assert.equal(answer.status, 200, answer.text);
      return answer.body["active"] === true;
    },
    kill: (what) => w.operator("POST", "/v1/kill", { reason: "test", ...what }),
    handed: async (human) =>
      granted(
        await made.onBehalf("triage-bot", human ?? w.human(), {
          resource: made.agentAudience("summary-bot"),
          scope: "billing:read_invoice",
        }),
        "hand-over",
      ),
  };
  return made;
}

/** A token's claims, unverified: the tests of tokens verify. */
export function claimsOf(
  token: string | Answer,
): JWTPayload & { txn: string; jti: string; scope: string; act?: unknown } {
  return decodeJwt(typeof token === "string" ? token : granted(token)) as never;
}

/** A client that authenticates by `private_key_jwt`. */
export function asserted(assertion: string): Form {
  return { client_assertion: assertion, client_assertion_type: ASSERTION_TYPE };
}

/** The path that an `act` claim tells, newest first. */
export function actorsOf(claims: { act?: unknown }): string[] {
  const path: string[] = [];
  for (let act = claims.act as { sub: string; act?: never } | undefined; act; act = act.act) path.push(act.sub);
  return path;
}
