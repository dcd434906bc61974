import { OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { CLIENT_ASSERTION_TYPE, GRANT_TYPE, TOKEN_TYPE } from "../core/oauth/vocabulary.ts";
import { readJws } from "../core/token/jws.ts";
import { CANARY, CANARY_ACTION, CANARY_PATH, CANARY_PROXIED, CANARY_VENDED } from "../core/trust/canary.ts";
import type { Credentials, RawOAuthAnswer, RequestFacts, Rooms } from "../http/rooms.ts";
import type { CanaryDoors, CanaryUse } from "../revocation/canary.ts";
import type { CanaryIdentity } from "../revocation/canary-identity.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { randomToken } from "../system/random.ts";
import { canaryCall } from "./canary-call.ts";

/** The canary's chains end by themselves, should their kill fail, after so many seconds. */
const CHAIN_SECONDS = 60;
/** Its tokens outlive the slowest kill (3 s), whatever is configured, so that no expiry passes for a refusal; seconds. */
const TOKEN_SECONDS = 30;
/** A frame names what was killed within seconds. */
const FRAME_MAX_BYTES = 1024 * 1024;
/** Where each token is spent, and for what. */
const SPENT: Readonly<Record<CanaryUse, { readonly audience: string; readonly scope: string }>> = {
  introspection: { audience: CANARY, scope: `${CANARY}:${CANARY_ACTION}` },
  vend: { audience: CANARY_VENDED, scope: `${CANARY_VENDED}:vend` },
  proxy: { audience: CANARY_PROXIED, scope: `${CANARY_PROXIED}:${CANARY_ACTION}` },
};
const SCOPES = Object.values(SPENT).map(({ scope }) => scope);
/** What a killed chain is refused by, where a token of it comes. Any other refusal would be one without the kill too. */
const BY_KILL: ReadonlySet<Reason> = new Set(["killed", "token_revoked"]);

/** What the canary needs of the rooms. */
export type CanaryRooms = Pick<Rooms, "agents" | "tasks" | "revocations" | "credentials"> & {
  readonly proxy: Pick<Rooms["proxy"], "http">;
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
      const order = { purpose: "canary", deadline: clock.now() + CHAIN_SECONDS, scopes: SCOPES };
      return (await rooms.tasks.open(order, { caller, request })).txn;
    },
    async exchange(txn, use) {
      const form = {
        grant_type: GRANT_TYPE.tokenExchange,
        subject_token: txn,
        subject_token_type: TOKEN_TYPE.task,
        client_assertion: identity.proof(clock.now()),
        client_assertion_type: CLIENT_ASSERTION_TYPE.jwtBearer,
        ...SPENT[use],
        ttl: String(TOKEN_SECONDS),
      };
      return await unlessKilled(
        async () => member(await rooms.sts.token(oauth("/token", form)), "access_token") as string,
      );
    },
    ...spendingDoors(rooms, { issuer, facts }),
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

/** Where a token of the canary's is spent. */
function spendingDoors(
  rooms: Pick<CanaryRooms, "credentials" | "proxy">,
  { issuer, facts }: { issuer: string; facts: (method: string, route: string) => RequestFacts },
): Pick<CanaryDoors, "vend" | "call"> {
  return {
    async vend(token) {
      const request = facts("POST", "/credentials/{resource}");
      const credentials = credentialsOf(token, { method: "POST", url: `${issuer}/credentials/${CANARY_VENDED}` });
      const vended = await unlessKilled(async () => {
        const { released } = await rooms.credentials.vend(CANARY_VENDED, { ...request, credentials });
        if (!released.release()) throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
        return true;
      });
      return vended !== undefined;
    },
    call(token) {
      const { requestId, remoteAddress } = facts("GET", "/http/{resource}");
      const credentials = credentialsOf(token, {
        method: "GET",
        url: `${issuer}/http/${CANARY_PROXIED}${CANARY_PATH}`,
      });
      const presented = { ...credentials, requestId, remoteAddress, route: "GET /http/{resource}" };
      return unlessKilled(() => canaryCall(rooms.proxy, presented));
    },
  };
}

/** @returns undefined where it was refused as killed. @throws whatever else was wrong */
async function unlessKilled<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof OAuthError && BY_KILL.has(error.reason)) return undefined;
    throw error;
  }
}

function credentialsOf(token: string, { method, url }: { method: string; url: string }): Credentials {
  return { authorization: `Bearer ${token}`, dpop: undefined, method, url };
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
