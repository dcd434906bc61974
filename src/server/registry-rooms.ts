import type { ApplyResult } from "../api/apply.ts";
import type { Recorder } from "../audit/recorder.ts";
import { ProblemError, type ProblemCode, type ProblemEntry } from "../api/problem.ts";
import type { TrustObject } from "../api/trust-objects.ts";
import { AccessDeniedError } from "../core/oauth/errors.ts";
import { isCanaryResource } from "../core/trust/canary.ts";
import type { Resource } from "../core/trust/model.ts";
import type { Call, Rooms } from "../http/rooms.ts";
import type { Applied } from "../registry/apply.ts";
import { TrustRefusedError, type TrustRefusal } from "../registry/errors.ts";
import type { Actor } from "../registry/guard.ts";
import { isKilledByRemoval, type Change, type Plan } from "../registry/plan.ts";
import { API_SOURCE, type Registry } from "../registry/registry.ts";
import type { FileProblem } from "../registry/trust-file.ts";
import { unlessKilled } from "./asker.ts";
import { actorOf } from "./wire.ts";

type StoredObject = NonNullable<Awaited<ReturnType<Registry["get"]>>>;

/** Trust objects, as the routes call them. */
export function registryRooms(registry: Registry, recorder: Recorder): Rooms["registry"] {
  const object = (stored: StoredObject): TrustObject => objectOf(stored, registry);
  return {
    async list(kind, { after, limit }) {
      const items = await registry.list(kind, { limit: limit + 1, ...(after === undefined ? {} : { after }) });
      const last = items.length > limit ? items[limit - 1] : undefined;
      return { items: items.slice(0, limit).map(object), ...(last === undefined ? {} : { next: last.name }) };
    },
    async get(kind, name) {
      const stored = await registry.get(kind, name);
      return stored && object(stored);
    },
    put: ({ kind, name, spec }, call) =>
      told(recorder, call, async () => {
        const before = await registry.get(kind, name);
        await registry.put({ kind, name, body: spec, actor: actorIn(call) });
        const stored = await registry.get(kind, name);
        if (!stored) throw new ProblemError("conflict", { detail: "it was removed at the same moment" });
        return { object: object(stored), isNew: before === undefined };
      }),
    delete: ({ kind, name }, call) =>
      told(recorder, call, async () => {
        if (!(await registry.get(kind, name))) return undefined;
        const applied = await registry.remove({ kind, name, actor: actorIn(call) });
        return { kind, name, version: applied.version, killed: isKilledByRemoval(kind), ...eventOf(applied) };
      }),
    setAgentStatus: ({ name, status, reason }, call) =>
      told(recorder, call, async () => {
        if (!(await registry.get("agents", name))) return undefined;
        await registry.setAgentStatus(name, status, { actor: actorIn(call), reason });
        const stored = await registry.get("agents", name);
        return stored && object(stored);
      }),
    apply: (order, call) => told(recorder, call, () => apply(registry, order, call)),
    resourceByIdentifier(identifier) {
      const resource = registry.trust.resourceByIdentifier(identifier);
      // Nobody else has anything to look for at the canary's.
      if (resource === undefined || isCanaryResource(resource.name)) return undefined;
      return { name: resource.name, kind: resource.kind };
    },
  };
}

async function apply(
  registry: Registry,
  order: Parameters<Rooms["registry"]["apply"]>[0],
  call: Call,
): Promise<ApplyResult> {
  const request = { source: order.source, text: order.file, actor: actorIn(call) };
  if (order.dry_run === true) {
    const plan = await registry.plan(request);
    return { source: order.source, applied: false, version: plan.version, ...shown(plan) };
  }
  const applied =
    order.refuse_superseded === true ? await registry.applyAtStart(request, "every") : await registry.apply(request);
  if (applied.outcome === "skipped")
    return { source: order.source, applied: false, version: registry.trust.version, changes: [], warnings: [] };
  return {
    source: order.source,
    applied: applied.outcome === "applied" && applied.plan.changes.length > 0,
    version: applied.version,
    ...shown(applied.plan),
    ...eventOf(applied),
  };
}

function shown(plan: Plan): Pick<ApplyResult, "changes" | "warnings"> {
  return { changes: plan.changes.map(changeOf), warnings: plan.warnings.map(entryOf) };
}

function changeOf(change: Change): ApplyResult["changes"][number] {
  const members = change.differences.map((difference) => difference.path);
  return {
    action: change.op,
    kind: change.kind,
    name: change.name,
    ...(change.op === "update" ? { members } : {}),
    ...(change.op === "delete" && isKilledByRemoval(change.kind) ? { kills: true } : {}),
  };
}

function eventOf(applied: Applied): { event_id?: string } {
  return applied.eventId === undefined ? {} : { event_id: applied.eventId };
}

function actorIn({ caller, request: { requestId } }: Call): Actor {
  switch (caller.kind) {
    case "operator":
      return { type: "operator", id: caller.id, requestId };
    case "person":
      // The route lets in whoever has the role, and so an operator.
      return { type: "person", operator: caller.operator ?? "", requestId };
    case "agent":
      return { type: "agent", name: caller.agent, requestId, ...(caller.token && { asker: caller.token.kill }) };
  }
}

function objectOf(stored: StoredObject, registry: Registry): TrustObject {
  const { status, ...spec } = stored.body as Record<string, unknown>;
  const resource: Resource | undefined =
    stored.kind === "resources" ? registry.trust.resourceByName(stored.name) : undefined;
  return {
    kind: stored.kind,
    name: stored.name,
    source: stored.source === API_SOURCE ? null : stored.source,
    version: stored.version,
    ...(stored.kind === "agents"
      ? { status: status === "suspended" ? ("suspended" as const) : ("active" as const) }
      : {}),
    ...(resource === undefined ? {} : { identifier: resource.identifier }),
    spec,
  };
}

const CODES: Readonly<Record<Exclude<TrustRefusal, "trust_forbidden">, ProblemCode>> = {
  trust_invalid: "unprocessable",
  trust_conflict: "conflict",
  trust_superseded: "superseded",
  trust_stale: "conflict",
  trust_not_found: "not_found",
};

/** The registry's refusals as the API tells them. What an agent may not change is a refusal of the agent, and recorded. */
async function told<T>(recorder: Recorder, call: Call, work: () => Promise<T>): Promise<T> {
  const { caller, request } = call;
  const { requestId, method, route } = request;
  try {
    return await unlessKilled(recorder, call, { type: "trust.apply", facts: { route: `${method} ${route}` } }, work);
  } catch (error) {
    if (!(error instanceof TrustRefusedError)) throw error;
    if (error.code === "trust_forbidden") {
      const changed = error.problems.map((problem) => problem.key).slice(0, 10);
      await recorder.refused(
        { type: "trust.apply", agent: actorOf(caller), requestId, facts: { changed } },
        "client_not_allowed",
      );
      throw new AccessDeniedError({ reason: "client_not_allowed" }, { cause: error });
    }
    throw new ProblemError(CODES[error.code], { entries: error.problems.map(entryOf), cause: error });
  }
}

function entryOf(problem: FileProblem): ProblemEntry {
  return {
    path: problem.key,
    detail: problem.what,
    mend: problem.mend,
    ...(problem.line === undefined ? {} : { line: problem.line }),
  };
}
