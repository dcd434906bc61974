/**
 * The room `approvals`: who is asked about a call, what was decided, and that a decision is used for that one call only. What a
 * decision is bound to is content, never a token (CONTRACT §8, INV-20). It forwards nothing; the gate uses an approval up.
 *
 * This file: the content.
 */
import { canonicalJson } from "../core/canonical-json.ts";
import { grantsAction } from "../core/grants/candidates.ts";
import { EPHOR_RESOURCE } from "../core/trust/ephor-resource.ts";
import type { AccessGrant, Resource } from "../core/trust/model.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import { injectedUseOf } from "../registry/check-inject.ts";
import { sha256Base64url } from "../system/hash.ts";

/** A call exactly as it would be forwarded; JSON values. */
export interface ExactCall {
  /** Everything but the arguments: method, target, headers that count. */
  readonly call: Readonly<Record<string, unknown>>;
  /** What the claim's `args_digest` is over. */
  readonly args: unknown;
}

/** What the content is made of. */
export interface CallFacts {
  readonly txn: string;
  readonly node: string;
  readonly path: readonly string[];
  readonly sub: string;
  readonly resource: string;
  readonly action: string;
  readonly exact: ExactCall;
  /** Hash of the tool's accepted definition, where tools are pinned. */
  readonly tool?: string | undefined;
  /** Those that carry the call, over the whole path. */
  readonly grants: readonly { readonly agent: string; readonly grant: string }[];
  /** What is injected, by name; version 0 for one that is not there. */
  readonly secrets: readonly SecretVersion[];
}

/** A secret as it is now. */
export interface SecretVersion {
  readonly name: string;
  readonly version: number;
}

/** What trust objects an approval hangs on: any change of them voids it. */
export interface BoundTrust {
  readonly owners: readonly (string | null)[];
  readonly resource: string | null;
  readonly grants: readonly { readonly agent: string; readonly name: string; readonly hash: string | null }[];
}

/** What an approval is bound to, as it is stored. */
export interface BoundContent {
  readonly v: 1;
  readonly txn: string;
  readonly node: string;
  readonly path: readonly string[];
  readonly sub: string;
  readonly resource: string;
  readonly action: string;
  /** Digests, for a call may be long. */
  readonly call: string;
  readonly args: string;
  readonly tool: string | null;
  readonly secrets: readonly SecretVersion[];
  readonly trust: BoundTrust;
}

/** SHA-256 in base64url of the canonical text of a value (RFC 8785). */
export function digestOf(value: unknown): string {
  return sha256Base64url(canonicalJson(value));
}

/** The content of a call under the trust objects as they are now. */
export function contentOf(trust: TrustIndex, facts: CallFacts): BoundContent {
  const { txn, node, path, sub, resource, action, exact, grants, secrets, tool } = facts;
  return {
    v: 1,
    txn,
    node,
    path,
    sub,
    resource,
    action,
    call: digestOf(exact.call),
    args: digestOf(exact.args),
    tool: tool ?? null,
    secrets,
    trust: boundTrust(trust, { path, resource, grants }),
  };
}

/** Whether what was stored would be made again of the trust objects as they are now. */
export function stillHolds(trust: TrustIndex, { path, resource, trust: bound }: BoundContent): boolean {
  const grants = bound.grants.map(({ agent, name }) => ({ agent, grant: name }));
  return digestOf(boundTrust(trust, { path, resource, grants })) === digestOf(bound);
}

function boundTrust(
  trust: TrustIndex,
  at: { path: readonly string[]; resource: string; grants: CallFacts["grants"] },
): BoundTrust {
  const resource = trust.resourceByName(at.resource);
  return {
    owners: at.path.map((name) => trust.agent(name)?.owner ?? null),
    resource: resource === undefined ? null : hashOfResource(resource, makerOf(trust, resource)),
    grants: at.grants.map(({ agent, grant: name }) => {
      const grant = trust.grantByName(name);
      return { agent, name, hash: grant?.kind === "access" ? hashOfGrant(grant, reviewersOf(trust, grant)) : null };
    }),
  };
}

/** What makes the credential that its calls go out with. */
function makerOf(trust: TrustIndex, resource: Resource): unknown {
  const use = injectedUseOf(resource);
  const maker = use && trust.resourceByName(use.resource);
  return maker?.kind === "credential" ? maker.settings : undefined;
}

function hashOfResource(resource: Resource, maker: unknown): string {
  const { name, identifier, kind } = resource;
  const isProxied = kind === "mcp" || kind === "http";
  return digestOf(
    plain({
      name,
      identifier,
      kind,
      actions: kind === "mcp" ? undefined : resource.actions,
      settings: isProxied ? resource.settings : undefined,
      mode: isProxied ? resource.mode : undefined,
      maker,
    }),
  );
}

/** The reviewing agents that a grant names and that may approve now: who was suspended since has not approved. None: undefined. */
function reviewersOf(trust: TrustIndex, { approval }: AccessGrant): readonly string[] | undefined {
  const named = (approval?.by ?? []).flatMap((one) => (typeof one === "object" && "agent" in one ? [one.agent] : []));
  if (named.length === 0) return undefined;
  return named.filter(
    (name) =>
      trust.agent(name)?.status === "active" &&
      trust.grantsOf(name, EPHOR_RESOURCE).some((grant) => grantsAction(grant, "approve")),
  );
}

/** Of what the grant says, not of what was compiled from it. */
function hashOfGrant(grant: AccessGrant, reviewers: readonly string[] | undefined): string {
  const { kind, name, agent, resource, actions, allowAll, onBehalfOf, when } = grant;
  const { ttlSeconds, until, approval, once, policy, residual } = grant;
  return digestOf(
    plain({
      kind,
      name,
      agent,
      resource,
      actions,
      allowAll,
      onBehalfOf,
      when,
      ttlSeconds,
      until,
      approval,
      once,
      policy,
      residual,
      reviewers,
    }),
  );
}

/** Without members that are undefined, at any depth. */
function plain(value: object): unknown {
  return JSON.parse(JSON.stringify(value));
}
