import { AccessDeniedError, InvalidTokenError } from "../core/oauth/errors.ts";
import { isFromOurPage } from "../core/same-site.ts";
import type { Auth } from "./route.ts";
import type { AgentCaller, Caller, Credentials, FoundSession, RequestFacts, Rooms, SessionCaller } from "./rooms.ts";

/**
 * Who is asking at a `/v1` route, by what the route declares. The operator key passes wherever a scope of `ephor` is asked for, a
 * person by his roles as they are now; an agent's own routes are for agents.
 *
 * @returns undefined for a public route
 * @throws {InvalidTokenError} `client_missing` without credentials; `client_not_allowed` for an operator key where an agent is asked for, and the reverse
 */
export async function authenticate(
  auth: Auth,
  credentials: Credentials,
  { rooms, request, origin }: { rooms: Rooms; request: RequestFacts; origin: string },
): Promise<Caller | undefined> {
  // The holder of a token for a resource, an OAuth client, a transmitter and a channel are judged by the room that serves them.
  if (auth === "none" || auth === "holder" || auth === "client" || auth === "transmitter" || auth === "channel")
    return undefined;
  // Nobody else sees these refusals; those of agents are recorded by the room that judges them (INV-29).
  const stranger = (error: InvalidTokenError): InvalidTokenError => {
    const { requestId, route, remoteAddress } = request;
    rooms.refusedAtEdge({ reason: error.reason, requestId, route, remoteAddress });
    return error;
  };
  if (credentials.authorization === undefined) {
    const session = await rooms.sessions.find(credentials.browser?.cookies);
    if (session === undefined) throw stranger(new InvalidTokenError({ reason: "client_missing" }));
    checkProof(session, { credentials, rooms, request, origin });
    return callerOfSession(auth, session, { rooms, request });
  }
  if (rooms.operators.isOperatorKey(credentials.authorization)) {
    if (auth === "agent") throw stranger(new InvalidTokenError({ reason: "client_not_allowed" }));
    try {
      const { id } = await rooms.operators.authenticate(credentials.authorization);
      return { kind: "operator", id };
    } catch (error) {
      throw error instanceof InvalidTokenError ? stranger(error) : error;
    }
  }
  if (auth === "agent") return rooms.agents.authenticate(credentials, request);
  if (auth === "operator") throw stranger(new InvalidTokenError({ reason: "client_not_allowed" }));
  return holding(await rooms.accessTokens.authenticate(credentials, auth.scope, request), auth.scope);
}

/**
 * Whoever is signed in, at a route that they may call.
 *
 * @throws {InvalidTokenError} `client_not_allowed` at an agent's own route; {AccessDeniedError} `role_missing`, `killed`
 */
export function callerOfSession(
  auth: Auth,
  { caller, roles }: SessionCaller,
  { rooms, request }: { rooms: Rooms; request: RequestFacts },
): Caller {
  const { requestId, route, remoteAddress } = request;
  const agent = nameOf(caller);
  const refused = <E extends InvalidTokenError | AccessDeniedError>(error: E): E => {
    rooms.refusedAtEdge({ reason: error.reason, requestId, route, remoteAddress, agent });
    return error;
  };
  if (typeof auth !== "object" && auth !== "operator")
    throw refused(new InvalidTokenError({ reason: "client_not_allowed" }));
  const isOwn = caller.kind === "person" && typeof auth === "object" && auth.ownToo === true;
  const isKilled = isOwn && caller.isKilled;
  const may = roles === undefined || (typeof auth === "object" && roles.includes(auth.scope)) || isOwn;
  if (!may || isKilled) throw refused(new AccessDeniedError({ reason: isKilled ? "killed" : "role_missing" }));
  return caller;
}

/** As the ledger names whoever is signed in. */
function nameOf(caller: SessionCaller["caller"]): string {
  if (caller.kind === "operator") return `operator:${caller.id}`;
  return caller.operator === undefined ? `human:${caller.sub}` : `operator:${caller.operator}`;
}

/**
 * A cookie goes wherever its browser is sent, so whatever changes something shows that a page of ours sent it (INV-28).
 *
 * @throws {AccessDeniedError} `form_forged`, recorded
 */
function checkProof(
  { isOurs, caller }: FoundSession,
  at: { credentials: Credentials; rooms: Rooms; request: RequestFacts; origin: string },
): void {
  const { credentials, rooms, request, origin } = at;
  if (credentials.method === "GET" || credentials.method === "HEAD") return;
  const { csrf, fetchSite, origin: from } = credentials.browser ?? {};
  if (csrf !== undefined && isOurs(csrf) && isFromOurPage({ fetchSite, origin: from }, origin)) return;
  const { requestId, route, remoteAddress } = request;
  rooms.refusedAtEdge({ reason: "form_forged", requestId, route, remoteAddress, agent: nameOf(caller) });
  throw new AccessDeniedError({ reason: "form_forged" });
}

/** The room has decided; that the scope is really there is looked at once more, for this line is what all routes share. */
function holding(caller: AgentCaller, action: string): AgentCaller {
  if (caller.token?.scopes.includes(`ephor:${action}`) !== true) {
    throw new InvalidTokenError({ reason: "insufficient_scope" });
  }
  return caller;
}
