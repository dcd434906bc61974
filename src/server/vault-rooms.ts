import { AccessDeniedError, InvalidTargetError } from "../core/oauth/errors.ts";
import type { SecretView } from "../api/secrets.ts";
import { releaseOf } from "../authz/release.ts";
import type { BrokerDeps } from "../broker/deps.ts";
import { leaseAbandoned } from "../broker/leases.ts";
import { vendThroughRotation } from "../broker/vend-through-rotation.ts";
import { rotateSecret } from "../broker/rotation.ts";
import type { Channel } from "../core/trust/model.ts";
import type { Call, Rooms } from "../http/rooms.ts";
import type { StsDeps } from "../sts/deps.ts";
import { tokenHolder } from "../sts/agent-identity.ts";
import type { LiveTokens } from "../sts/live-tokens.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import type { SecretFacts } from "../vault/secrets.ts";
import { askerOf, unlessKilled } from "./asker.ts";
import { actorOf, instantOf } from "./wire.ts";

/** Sealed secrets, as the routes call them. */
export function secretRooms(broker: BrokerDeps): Rooms["secrets"] {
  const { secrets, recorder } = broker;
  return {
    async list({ after, limit }) {
      const items = (await secrets.list({ after, limit: limit + 1 })).map(viewOf);
      const last = items.length > limit ? items[limit - 1] : undefined;
      return { items: items.slice(0, limit), ...(last === undefined ? {} : { next: last.name }) };
    },
    async get(name) {
      const facts = await secrets.describe(name);
      return facts && viewOf(facts);
    },
    async put({ name, value, owner }, call) {
      const { caller, request } = call;
      await checkMayChange(broker, name, call, "secret.set");
      const bytes = SecretBytes.fromText(value);
      try {
        const by = actorOf(caller);
        const draft = { type: "secret.set", facts: { secret: name, owner } } as const;
        const event = recorder.draft({ ...draft, agent: by, requestId: request.requestId }, "granted");
        const order = { name, owner, value: bytes, by, event, asker: askerOf(caller) };
        return viewOf(await unlessKilled(recorder, call, draft, () => secrets.put(order)));
      } finally {
        bytes.wipe();
      }
    },
    async rotate(name, call) {
      const { caller, request } = call;
      await checkMayChange(broker, name, call, "secret.rotate");
      const by = actorOf(caller);
      const asker = { by, requestId: request.requestId, kill: askerOf(caller) };
      const { facts, resource } = await rotateSecret(broker, name, asker);
      return { secret: viewOf(facts), resource };
    },
    async remove(name, call) {
      const { caller, request } = call;
      await checkMayChange(broker, name, call, "secret.remove");
      const draft = { type: "secret.remove", facts: { secret: name } } as const;
      const event = recorder.draft({ ...draft, agent: actorOf(caller), requestId: request.requestId }, "granted");
      return await unlessKilled(recorder, call, draft, () => secrets.remove(name, event, askerOf(caller)));
    },
  };
}

/**
 * Whoever knows by what a channel signs speaks for operators, and whoever says where it is reads what they are asked, so only the
 * operator key changes that.
 *
 * @throws {AccessDeniedError} `client_not_allowed`, recorded
 */
async function checkMayChange(
  { trust, recorder }: BrokerDeps,
  name: string,
  { caller, request }: Call,
  type: "secret.set" | "secret.rotate" | "secret.remove",
): Promise<void> {
  if (caller.kind === "operator") return;
  if (
    !trust()
      .channels()
      .some((channel) => channel.signingSecret === name || isAddress(channel, name))
  )
    return;
  const draft = { type, agent: actorOf(caller), requestId: request.requestId, facts: { secret: name } };
  await recorder.refused(draft, "client_not_allowed");
  throw new AccessDeniedError({ reason: "client_not_allowed" });
}

function isAddress(channel: Channel, secret: string): boolean {
  return channel.kind === "teams" && typeof channel.webhook === "object" && channel.webhook.secret === secret;
}

function viewOf(facts: SecretFacts): SecretView {
  const { createdAt, updatedAt, updatedBy, ...rest } = facts;
  return { ...rest, created_at: instantOf(createdAt), updated_at: instantOf(updatedAt), updated_by: updatedBy };
}

/** Vending, as the route calls it. */
export function credentialRooms(deps: { sts: StsDeps; live: LiveTokens; broker: BrokerDeps }): Rooms["credentials"] {
  const { sts, live, broker } = deps;
  return {
    async vend(name, { credentials, requestId, method, route, remoteAddress }) {
      const resource = sts.trust().resourceByName(name);
      // An unknown name and another kind look alike, and like a token for something else: nothing is told.
      const audience = `${sts.issuer}/credentials/${name}`;
      const presented = { ...credentials, requestId, route: `${method} ${route}`, remoteAddress };
      const holder = await tokenHolder(sts, live, { presented, audience });
      if (resource?.kind !== "credential") throw new InvalidTargetError({ reason: "target_unknown" });
      const { claims, state } = holder.token;
      const vended = await vendThroughRotation(broker, {
        resource,
        requestId,
        holder: {
          agent: holder.agent,
          claims,
          txn: state.txn,
          node: state.node,
          killKeys: state.killKeys,
          killEpochs: state.killEpochs,
          proof: holder.proof && { key: holder.proof.replayKey, exp: holder.proof.replayUntil },
        },
      });
      return {
        vended: {
          lease: vended.lease,
          kind: vended.kind,
          expires_at: instantOf(vended.expiresAt * 1_000),
          residual_seconds: vended.residualSeconds,
          credential: { ...vended.credential },
        },
        // Nobody has it: there is nothing to wait for.
        released: releaseOf(
          sts,
          vended.permit,
          () => void leaseAbandoned(broker.db, vended.lease, sts.clock.nowMs()).catch(() => {}),
        ),
      };
    },
  };
}
