import { OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { CLIENT_ASSERTION_TYPE, GRANT_TYPE, TOKEN_TYPE } from "../core/oauth/vocabulary.ts";
import { readJws } from "../core/token/jws.ts";
import { CANARY, CANARY_ACTION } from "../core/trust/canary.ts";
import type { RawOAuthAnswer, RequestFacts, Rooms } from "../http/rooms.ts";
import type { CanaryDoors } from "../revocation/canary.ts";
import type { CanaryIdentity } from "../revocation/canary-identity.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { randomToken } from "../system/random.ts";

/** The canary's chains end by themselves, should their kill fail, after so many seconds. */
const CHAIN_SECONDS = 60;
/** Its tokens outlive the slowest kill (3 s), whatever is configured, so that no expiry passes for a refusal; seconds. */
const TOKEN_SECONDS = 30;
/** A frame names what was killed within seconds. */
const FRAME_MAX_BYTES = 1024 * 1024;
const SCOPE = `${CANARY}:${CANARY_ACTION}`;

/** What the canary needs of the rooms. */
export type CanaryRooms = Pick<Rooms, "agents" | "tasks" | "revocations"> & {
  readonly sts: Pick<Rooms["sts"], "token" | "introspect">;
  readonly kills: Pick<Rooms["kills"], "kill">;
};

/** The rooms as the canary uses them: as the routes do, with credentials of its own. */
export function canaryDoors(
  rooms: CanaryRooms,
  identity: CanaryIdentity,
  at: { clock: DatabaseClock; issuer: string },
): CanaryDoors {
  const { clock, issuer } = at;
  const facts = (method: string, route: string): RequestFacts => factsOf(method, route, clock.nowMs());
  const oauth = (path: string, form: Record<string, string>, authorization?: string) => ({
    ...facts("POST", path),
    path,
    authorization,
    contentType: "application/x-www-form-urlencoded",
    body: new TextEncoder().encode(new URLSearchParams(form).toString()),
  });
  return {
    async open() {
      const request = facts("POST", "/v1/tasks");
      const authorization = `Bearer ${identity.proof(clock.now())}`;
      const url = `${issuer}/v1/tasks`;
      const caller = await rooms.agents.authenticate({ authorization, dpop: undefined, method: "POST", url }, request);
      const order = { purpose: "canary", deadline: clock.now() + CHAIN_SECONDS, scopes: [SCOPE] };
      return (await rooms.tasks.open(order, { caller, request })).txn;
    },
    async exchange(txn) {
      const form = {
        grant_type: GRANT_TYPE.tokenExchange,
        subject_token: txn,
        subject_token_type: TOKEN_TYPE.task,
        client_assertion: identity.proof(clock.now()),
        client_assertion_type: CLIENT_ASSERTION_TYPE.jwtBearer,
        audience: CANARY,
        scope: SCOPE,
        ttl: String(TOKEN_SECONDS),
      };
      try {
        return member(await rooms.sts.token(oauth("/token", form)), "access_token") as string;
      } catch (error) {
        // Any other refusal would be one without the kill too.
        if (error instanceof OAuthError && error.reason === "killed") return undefined;
        throw error;
      }
    },
    async isActive(token) {
      return (
        member(await rooms.sts.introspect(oauth("/introspect", { token }, identity.introspection)), "active") === true
      );
    },
    async feed(after) {
      const request = facts("GET", "/v1/revocations");
      const credentials = {
        authorization: identity.introspection,
        dpop: undefined,
        method: "GET",
        url: `${issuer}/v1/revocations`,
      };
      const { seq, frame } = await rooms.revocations.frame({ after }, { ...request, credentials });
      const { dead } = readJws(frame, { maxBytes: FRAME_MAX_BYTES, ownHeader: true }).payload;
      const entries = Array.isArray(dead) ? (dead as readonly { readonly txn?: unknown }[]) : [];
      return { seq, dead: entries.flatMap(({ txn }) => (typeof txn === "string" ? [txn] : [])) };
    },
    async kill(txn) {
      const order = { targets: [{ kind: "txn", value: txn }], reason: "canary", forSeconds: undefined, dryRun: false };
      const caller = { kind: "agent", agent: CANARY } as const;
      await rooms.kills.kill(order as Parameters<Rooms["kills"]["kill"]>[0], {
        caller,
        request: facts("POST", "/v1/kill"),
      });
    },
  };
}

function factsOf(method: string, route: string, receivedAtMs: number): RequestFacts {
  return {
    requestId: `canary-${randomToken(9)}`,
    method,
    route,
    remoteAddress: "127.0.0.1",
    traceparent: undefined,
    receivedAtMs,
    signal: new AbortController().signal,
  };
}

/** A member of an answer that may leave; what may not is no answer. */
function member(answer: RawOAuthAnswer, name: string): unknown {
  if (answer.release?.() === false) throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
  return (JSON.parse(answer.body) as Record<string, unknown>)[name];
}
