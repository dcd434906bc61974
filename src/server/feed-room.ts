import { InvalidClientError, OAuthError } from "../core/oauth/errors.ts";
import { readForm } from "../core/oauth/form.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { Rooms, Credentials, RequestFacts } from "../http/rooms.ts";
import type { Keys } from "../keys/keys.ts";
import type { Audience, Feed, Frame } from "../revocation/feed.ts";
import { agentIdentity } from "../sts/agent-identity.ts";
import type { StsDeps } from "../sts/deps.ts";
import type { LiveTokens } from "../sts/live-tokens.ts";
import { introspectionClient } from "../sts/resource-server.ts";

interface FeedRoomDeps {
  readonly sts: StsDeps;
  readonly live: LiveTokens;
  readonly feed: Feed;
  readonly keys: Keys;
}

/** The feed of kills, for whoever may introspect: a resource by its secret, or an agent by its platform's token. */
export function feedRoom(deps: FeedRoomDeps): Rooms["revocations"] {
  const { sts, feed, keys } = deps;
  const signed = (audience: Audience, frame: Frame): { seq: number; frame: string } => ({
    seq: frame.seq,
    frame: keys.attestor.sign(JWT_TYP.feed, { iss: sts.issuer, aud: audience.identifier, iat: frame.as_of, ...frame }),
  });
  return {
    async frame(order, request) {
      const audience = await audienceOf(deps, order.resource, request);
      return signed(audience, await feed.frame(audience, order.after));
    },
    async frames(order, request) {
      const audience = await audienceOf(deps, order.resource, request);
      // The first frame is read before anything is answered: whoever cannot read says so by a status.
      const frames = feed.frames(audience, order.after, request.signal);
      const first = await frames.next();
      return (async function* events() {
        try {
          for (let next = first; next.done !== true; next = await frames.next()) {
            const { seq, frame } = signed(audience, next.value);
            yield `id: ${seq}\nevent: frame\ndata: ${frame}\n\n`;
          }
        } finally {
          await frames.return(undefined);
        }
      })();
    },
  };
}

/** @throws {InvalidClientError} recorded, the same for every cause */
async function audienceOf(
  { sts, live }: Pick<FeedRoomDeps, "sts" | "live">,
  wanted: string | undefined,
  request: RequestFacts & { readonly credentials: Credentials },
): Promise<Audience> {
  const { authorization } = request.credentials;
  const { requestId, remoteAddress, method, route } = request;
  if (authorization !== undefined && /^bearer /i.test(authorization)) {
    const presented = { ...request.credentials, requestId, route: `${method} ${route}`, remoteAddress };
    // A stranger is recorded there.
    const { agent } = await agentIdentity(sts, live, presented);
    return only(sts.trust().resourcesIntrospectedBy(agent.name), wanted);
  }
  try {
    const context = { form: readForm(new Uint8Array()), authorization, requestId, remoteAddress } as const;
    const client = await introspectionClient(sts, { ...context, traceId: undefined, proof: undefined });
    return only(client.resources, wanted);
  } catch (error) {
    if (error instanceof OAuthError && error.status !== 503)
      await sts.noise.refused(
        { type: "admin.request", requestId, facts: { ...error.facts, route: `${method} ${route}` } },
        error.reason,
        remoteAddress,
      );
    throw error;
  }
}

/** One resource: its tokens are what the receiver judges. */
function only(resources: readonly Audience[], wanted: string | undefined): Audience {
  const fitting = resources.filter(({ name }) => wanted === undefined || name === wanted);
  const [one] = fitting;
  if (one === undefined || fitting.length > 1) throw new InvalidClientError({ reason: "client_not_allowed" });
  return { name: one.name, identifier: one.identifier };
}
