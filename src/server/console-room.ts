import type { Recorder } from "../audit/recorder.ts";
import { createConsole } from "../console/console.ts";
import type { PageRequest } from "../api/pages.ts";
import type { ConsolePorts, Viewer } from "../console/page.ts";
import { InvalidTokenError } from "../core/oauth/errors.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Db } from "../db/database.ts";
import type { InProcess } from "../http/in-process.ts";
import type { PageMakerOf } from "../http/pages.ts";
import type { FoundSession, Rooms, SessionCaller } from "../http/rooms.ts";
import type { Operators } from "../operators/authenticate.ts";
import { createSessions, type Session, type Sessions } from "../operators/sessions.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { signInPorts, type SignInParts } from "./console-sign-in.ts";
import { constantTimeEqual } from "../system/hash.ts";

/** What the console is put together from. */
export interface ConsoleParts {
  readonly issuer: string;
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly trust: () => TrustIndex;
  readonly recorder: Recorder;
  readonly operators: Operators;
  readonly refusedAtEdge: Rooms["refusedAtEdge"];
}

/** Sessions as `/v1` asks them, and the pages. */
export function consoleRooms(parts: ConsoleParts & SignInParts): { sessions: Rooms["sessions"]; console: PageMakerOf } {
  const { db, clock, trust } = parts;
  const { origin, pathname } = new URL(parts.issuer);
  const sessions = createSessions({ db, clock, trust, isSecure: parts.issuer.startsWith("https:") });
  return {
    sessions: {
      async find(cookies) {
        const session = await sessions.find(cookies);
        return session && foundSession(session);
      },
    },
    console: (api) =>
      createConsole({ basePath: pathname.replace(/\/$/, ""), origin, ports: portsOf(parts, { sessions, api }) }),
  };
}

function portsOf(
  parts: ConsoleParts & SignInParts,
  { sessions, api }: { sessions: Sessions; api: InProcess },
): ConsolePorts {
  const { operators, recorder } = parts;
  return {
    ...signInPorts(parts, sessions),
    async find(request) {
      const session = await sessions.find(request.cookies);
      return session && viewerOf(session, { api, request });
    },
    async signInByKey(key, request) {
      const { requestId, remoteAddress } = request;
      try {
        const { id } = await operators.authenticate(`Bearer ${key}`);
        const cookie = await sessions.open({ kind: "key", operatorId: id, key }, request.cookies);
        await recorder.noted({ type: "operator.sign_in", agent: `operator:${id}`, requestId, facts: { by: "key" } });
        return cookie;
      } catch (error) {
        if (!(error instanceof InvalidTokenError)) throw error;
        parts.refusedAtEdge({ reason: error.reason, requestId, route: routeOf(request), remoteAddress });
        return undefined;
      }
    },
    async signOut(which, request) {
      const session = await sessions.find(request.cookies);
      const cookie = await sessions.close(request.cookies, which);
      if (session !== undefined)
        await recorder.noted({
          type: "operator.sign_out",
          agent: nameOf(session),
          requestId: request.requestId,
          facts: { which },
        });
      return cookie;
    },
    refused(reason, request, by) {
      const { requestId, remoteAddress } = request;
      const agent = by === undefined ? {} : { agent: by };
      parts.refusedAtEdge({ reason, requestId, route: routeOf(request), remoteAddress, ...agent });
    },
  };
}

/** Of a path that anybody wrote: without what stands for an id. */
function routeOf({ method, path }: PageRequest): string {
  const [, , section = "", ...rest] = path.split("/");
  const known = /^[a-z-]{1,20}$/.test(section) ? `/${section}` : "";
  return `${method} /console${known}${rest.length > 0 ? "/{…}" : ""}`;
}

function foundSession(session: Session): FoundSession {
  return { ...callerOf(session), isOurs: (proof) => constantTimeEqual(proof, session.csrf) };
}

/** A session has no rights of its own: they are those of the operator that its person is now. */
function callerOf({ who, operator, isKilled }: Session): SessionCaller {
  if (who.kind === "key") return { caller: { kind: "operator", id: who.operatorId }, roles: undefined };
  const { sub, authTime } = who.person;
  return {
    caller: { kind: "person", operator: operator?.name, sub, authTime, isKilled },
    roles: operator === undefined ? [] : operator.roles,
  };
}

/** As the ledger names whoever is signed in. */
function nameOf({ who, operator }: Session): string {
  if (who.kind === "key") return `operator:${who.operatorId}`;
  return operator === undefined ? `human:${who.person.sub}` : `operator:${operator.name}`;
}

function viewerOf(session: Session, { api, request }: { api: InProcess; request: PageRequest }): Viewer {
  const { who, operator, csrf, expiresAt } = session;
  const { caller, roles, isOurs } = foundSession(session);
  const person = who.kind === "person" ? who.person : undefined;
  return {
    name: nameOf(session),
    kind: who.kind,
    person: person && { issuer: person.issuer, sub: person.sub, authTime: person.authTime },
    operator: operator?.name,
    expiresAt,
    csrf,
    isOurForm: isOurs,
    api: (order) => api({ ...order, caller: { caller, roles }, request }),
  };
}
