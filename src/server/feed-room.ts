import { InvalidClientError, OAuthError } from "../core/oauth/errors.ts";
import type { Agent, Resource } from "../core/trust/model.ts";
import { readForm } from "../core/oauth/form.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { Rooms, Credentials, RequestFacts } from "../http/rooms.ts";
import type { Keys } from "../keys/keys.ts";
import type { Audience, Feed, Frame } from "../revocation/feed.ts";
import { agentIdentity, spendProofs } from "../sts/agent-identity.ts";
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
      const { mayStill } = audience;
      // The first frame is read before anything is answered: whoever cannot read says so by a status.
      const frames = feed.frames(audience, order.after, request.signal);
      const first = await frames.next();
      return (async function* events() {
        try {
          // Ends where a change touched what the receiver may: it comes again and says who it is.
          for (let next = first; next.done !== true && mayStill(); next = await frames.next()) {
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

/** Whose frames these are, and whether nothing by which the receiver may have them was changed since. */
type Receiver = Audience & { readonly mayStill: () => boolean };

/**
 * Whoever is told of a resource's kills: by its secret, or as the agent that introspects for it.
 *
 * @throws {InvalidClientError} recorded, the same for every cause
 */
export async function audienceOf(
  { sts, live }: Pick<FeedRoomDeps, "sts" | "live">,
  wanted: string | undefined,
  request: RequestFacts & { readonly credentials: Credentials },
): Promise<Receiver> {
  const { authorization } = request.credentials;
  const { requestId, remoteAddress, method, route } = request;
  if (authorization !== undefined && /^bearer /i.test(authorization)) {
    const presented = { ...request.credentials, requestId, route: `${method} ${route}`, remoteAddress };
    // A stranger is recorded there.
    const identity = await agentIdentity(sts, live, presented);
    const { agent } = identity;
    if (identity.token?.claims.once === true) await spendProofs(sts, identity, presented);
    return only(sts, { resources: sts.trust().resourcesIntrospectedBy(agent.name), agent, wanted });
  }
  try {
    const context = { form: readForm(new Uint8Array()), authorization, requestId, remoteAddress } as const;
    const client = await introspectionClient(sts, { ...context, traceId: undefined, proof: undefined });
    return only(sts, { resources: client.resources, agent: client.acting?.agent, wanted });
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
function only(
  sts: Pick<StsDeps, "trust">,
  {
    resources,
    agent,
    wanted,
  }: { resources: readonly Resource[]; agent: Agent | undefined; wanted: string | undefined },
): Receiver {
  const fitting = resources.filter(({ name }) => wanted === undefined || name === wanted);
  const [one] = fitting;
  if (one === undefined || fitting.length > 1) throw new InvalidClientError({ reason: "client_not_allowed" });
  // The index keeps an object as it is until it is changed.
  const mayStill = (): boolean => {
    const trust = sts.trust();
    return trust.resourceByName(one.name) === one && (agent === undefined || trust.agent(agent.name) === agent);
  };
  return { name: one.name, identifier: one.identifier, mayStill };
}
