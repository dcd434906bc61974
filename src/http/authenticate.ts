import { InvalidTokenError } from "../core/oauth/errors.ts";
import type { Auth } from "./route.ts";
import type { AgentCaller, Caller, Credentials, RequestFacts, Rooms } from "./rooms.ts";

/**
 * Who is asking at a `/v1` route, by what the route declares. Operators pass wherever a scope of `ephor` is asked for; an
 * agent's own routes are for agents.
 *
 * @returns undefined for a public route
 * @throws {InvalidTokenError} `client_missing` without credentials; `client_not_allowed` for an operator key where an agent is asked for, and the reverse
 */
export async function authenticate(
  auth: Auth,
  credentials: Credentials,
  { rooms, request }: { rooms: Rooms; request: RequestFacts },
): Promise<Caller | undefined> {
  // The holder of a token for a resource, an OAuth client and a transmitter are judged by the room that serves them.
  if (auth === "none" || auth === "holder" || auth === "client" || auth === "transmitter") return undefined;
  // Nobody else sees these refusals; those of agents are recorded by the room that judges them (INV-29).
  const stranger = (error: InvalidTokenError): InvalidTokenError => {
    const { requestId, route, remoteAddress } = request;
    rooms.refusedAtEdge({ reason: error.reason, requestId, route, remoteAddress });
    return error;
  };
  if (credentials.authorization === undefined) throw stranger(new InvalidTokenError({ reason: "client_missing" }));
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

/** The room has decided; that the scope is really there is looked at once more, for this line is what all routes share. */
function holding(caller: AgentCaller, action: string): AgentCaller {
  if (caller.token?.scopes.includes(`ephor:${action}`) !== true) {
    throw new InvalidTokenError({ reason: "insufficient_scope" });
  }
  return caller;
}
