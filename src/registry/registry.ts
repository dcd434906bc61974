/**
 * The room `registry`: the trust objects of the deployment. It reads trust files, plans and applies changes, and keeps the
 * compiled index of `core/trust` current. It owns the tables `trust_*`; the gate's function writes them. It decides about no
 * token.
 */
import { createTrustIndex } from "../core/trust/compiled.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Agent, TrustKind, TrustObjects } from "../core/trust/model.ts";
import { readTrustObject } from "../core/trust/schema.ts";
import type { TrustBody } from "../core/trust/schema.ts";
import type { Log } from "../system/log.ts";
import { applyWish, planWish, statusChange, wishForSource } from "./apply.ts";
import type { Applied, Live, RegistryDeps, Wish } from "./apply.ts";
import { TrustRefusedError } from "./errors.ts";
import type { Actor } from "./guard.ts";
import { createMirror } from "./mirror.ts";
import { deletion, planChanges } from "./plan.ts";
import type { Plan } from "./plan.ts";
import { listObjects, readObject, readSource } from "./store.ts";
import type { StoredObject } from "./store.ts";
import { formatPath, parseTrustFile } from "./trust-file.ts";

/** The source of objects that were put one by one. */
export const API_SOURCE = "api";

/** Most objects in one page of a list. */
const MAX_PAGE = 500;

/** A file to be applied. */
export interface FileRequest {
  /** Who owns the objects; usually the file's name. */
  readonly source: string;
  readonly text: string;
  readonly actor: Actor;
  /** Refuses when the trust version is another one. */
  readonly expectedVersion?: number;
}

/** One object to be changed. */
export interface ObjectRequest {
  readonly kind: TrustKind;
  readonly name: string;
  readonly actor: Actor;
  readonly expectedVersion?: number;
}

/** Trust objects, live and stored. */
export interface Registry {
  /** The live index; the same object for the life of the process. */
  readonly trust: TrustIndex;
  /** Loads everything. To be awaited before the first request. */
  load(): Promise<void>;
  /**
   * Brings the index to what the database says now, or at least to a version that is known to exist.
   *
   * @throws {DatabaseUnreachableError} `database_unreachable`
   */
  catchUp(minVersion?: number): Promise<void>;
  /** @throws {TrustRefusedError} `trust_invalid`, `trust_conflict`, `trust_forbidden`, `trust_stale` */
  plan(request: FileRequest): Promise<Plan>;
  /** @throws {TrustRefusedError} as `plan` */
  apply(request: FileRequest): Promise<Applied>;
  /**
   * Applies the file of the configuration at a start: once (`first`), or at every start unless it was superseded (`every`).
   *
   * @throws {TrustRefusedError} also `trust_superseded`
   */
  applyAtStart(request: FileRequest, when: "first" | "every"): Promise<Applied | { readonly outcome: "skipped" }>;
  /** @throws {TrustRefusedError} as `plan` */
  put(request: ObjectRequest & { readonly body: unknown }): Promise<Applied>;
  /** Removes an object that was put by itself; of an agent, issuer or resource this is a kill. @throws {TrustRefusedError} also `trust_not_found` */
  remove(request: ObjectRequest): Promise<Applied>;
  get(kind: TrustKind, name: string): Promise<StoredObject | undefined>;
  /** Objects of a kind in the order of their names. */
  list(kind: TrustKind, page?: { after?: string; limit?: number }): Promise<readonly StoredObject[]>;
  /** Suspends an agent or lets it act again, whatever its source; it survives every apply. @throws {TrustRefusedError} `trust_not_found` */
  setAgentStatus(name: string, status: Agent["status"], request: { actor: Actor; reason?: string }): Promise<Applied>;
}

/** Makes the room. */
export function createRegistry(
  deps: RegistryDeps & { readonly log: Log; readonly canary?: TrustObjects | undefined },
): Registry {
  const { issuerUrl, canary } = deps;
  const index = createTrustIndex({ issuerUrl, ...(canary && { canary }) });
  const mirror = createMirror({ ...deps, index });
  const live: Live = { trust: index, catchUp: mirror.catchUp };
  return {
    trust: index,
    load: mirror.load,
    catchUp: mirror.catchUp,
    plan: async (request) => planWish(deps, live, readFile(deps, request)),
    apply: async (request) => applyWish(deps, live, readFile(deps, request)),
    async applyAtStart(request, when) {
      const wish = readFile(deps, request);
      const { current, wasApplied } = await readSource(deps.db, wish.source, wish.digest ?? "");
      if (when === "first" && current !== undefined) return { outcome: "skipped" };
      if (wasApplied && current !== wish.digest) throw new TrustRefusedError("trust_superseded");
      return applyWish(deps, live, wish);
    },
    put: async (request) => applyWish(deps, live, wishToPut(deps, request)),
    remove: async (request) => applyWish(deps, live, wishToRemove(request)),
    get: (kind, name) => readObject(deps.db, kind, name),
    list: (kind, page = {}) =>
      listObjects(deps.db, kind, { after: page.after ?? "", limit: Math.min(page.limit ?? MAX_PAGE, MAX_PAGE) }),
    async setAgentStatus(name, status, request) {
      const stored = await readObject(deps.db, "agents", name);
      if (stored === undefined) throw new TrustRefusedError("trust_not_found");
      return applyWish(deps, live, wishForStatus(stored, status, request));
    },
  };
}

/** A source is a file's name: one line of printable characters, and not the one that single objects have. */
const SOURCE_PATTERN = /^[A-Za-z0-9][A-Za-z0-9 ._@:/+-]{0,127}$/;

function readFile(deps: RegistryDeps, request: FileRequest): Wish {
  const { source, text, actor, expectedVersion } = request;
  if (!SOURCE_PATTERN.test(source) || source === API_SOURCE) {
    const problem = {
      key: "source",
      what: "is no name for a source",
      mend: `use the file's name; "${API_SOURCE}" is kept for single objects`,
    };
    throw new TrustRefusedError("trust_invalid", [problem]);
  }
  const file = parseTrustFile(text, source, deps.issuerUrl);
  if (!file.ok) throw new TrustRefusedError("trust_invalid", file.problems);
  return wishForSource(source, file.entries, {
    actor,
    place: file.place,
    ...(expectedVersion !== undefined && { expectedVersion }),
  });
}

function wishToPut(deps: RegistryDeps, request: ObjectRequest & { readonly body: unknown }): Wish {
  const { kind, name, actor, body, expectedVersion } = request;
  const reading = readTrustObject(kind, name, body, { issuerUrl: deps.issuerUrl, at: [] });
  const problems = reading.ok ? namedOtherwise(kind, name, body) : reading.problems;
  if (!reading.ok || problems.length > 0) {
    throw new TrustRefusedError(
      "trust_invalid",
      problems.map((problem) => ({ key: formatPath(problem.path), what: problem.what, mend: problem.mend })),
    );
  }
  return {
    source: API_SOURCE,
    type: "trust.apply",
    actor,
    entries: [reading.value],
    reads: { wholeSource: false, names: [{ kind, name }] },
    ...(expectedVersion !== undefined && { expectedVersion }),
    changes: (stored) => planChanges(API_SOURCE, [reading.value], stored, "single"),
  };
}

/** A grant may carry its name in its body; it must be the one in its path. */
function namedOtherwise(
  kind: TrustKind,
  name: string,
  body: unknown,
): readonly { path: string[]; what: string; mend: string }[] {
  const written = kind === "grants" ? (body as TrustBody)["name"] : undefined;
  return written === undefined || written === name
    ? []
    : [{ path: ["name"], what: "is another name than the path's", mend: "write one of the two" }];
}

function wishToRemove(request: ObjectRequest): Wish {
  const { kind, name, actor, expectedVersion } = request;
  return {
    source: API_SOURCE,
    type: "trust.apply",
    actor,
    entries: [],
    reads: { wholeSource: false, names: [{ kind, name }] },
    ...(expectedVersion !== undefined && { expectedVersion }),
    changes(stored) {
      const object = stored.find((candidate) => candidate.kind === kind && candidate.name === name);
      if (object === undefined) throw new TrustRefusedError("trust_not_found");
      const conflicts =
        object.source === API_SOURCE
          ? []
          : [
              {
                path: [kind, name],
                what: `belongs to the source ${object.source}`,
                mend: "take it out there and apply; to stop it at once, kill or suspend it",
              },
            ];
      return { changes: [deletion(object)], unchanged: 0, conflicts };
    },
  };
}

function wishForStatus(
  stored: StoredObject,
  status: Agent["status"],
  request: { actor: Actor; reason?: string },
): Wish {
  const { name } = stored;
  return {
    source: stored.source,
    type: "agent.status",
    actor: request.actor,
    entries: [],
    reads: { wholeSource: false, names: [{ kind: "agents", name }] },
    facts: { status, ...(request.reason !== undefined && { why: request.reason }) },
    changes(objects) {
      const current = objects[0];
      // Removed, or moved to another source, since it was looked up.
      if (current === undefined || current.source !== stored.source) throw new TrustRefusedError("trust_stale");
      const isSo = ((current.body as { status?: Agent["status"] }).status ?? "active") === status;
      return { changes: isSo ? [] : [statusChange(current, status)], unchanged: isSo ? 1 : 0, conflicts: [] };
    },
  };
}
