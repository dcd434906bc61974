import { deathKeys, killKey } from "../core/kill/keys.ts";
import type { MutableTrustIndex } from "../core/trust/compiled.ts";
import type { Agent, Channel, Grant, Issuer, Operator, Resource, TrustKind } from "../core/trust/model.ts";
import { readTrustObject } from "../core/trust/schema.ts";
import type { Db } from "../db/database.ts";
import type { Log } from "../system/log.ts";
import { loadAll, loadChanges } from "./store.ts";
import type { StoredObject } from "./store.ts";

/** Keeps an index like the database. */
export interface Mirror {
  load(): Promise<void>;
  catchUp(minVersion?: number): Promise<void>;
}

interface MirrorDeps {
  readonly db: Db;
  readonly log: Log;
  readonly issuerUrl: string;
  readonly index: MutableTrustIndex;
  /**
   * Told of each change that was taken in, in the same turn of the event loop.
   *
   * @param keys what is to be decided anew, by the keys that would kill it
   * @param position the kill position at which the change was read: what was decided at an earlier one may rest on what was before
   */
  readonly changed?: ((keys: readonly string[], position: number) => void) | undefined;
}

/**
 * Reads the log of changes after the index's version and applies it, one read at a time. A caller that asks while a read is
 * under way gets the next one, since the one under way may have begun before the change that the caller knows of; all who
 * wait share it.
 */
export function createMirror(deps: MirrorDeps): Mirror {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;

  const read = async (): Promise<void> => {
    const { at, epoch, objects, deletes } = await loadChanges(deps.db, deps.index.version);
    if (at <= deps.index.version) return;
    // Before the change too: a grant that is gone tells no more whose it was.
    const before = keysOf(deps.index, [...objects, ...deletes]);
    applyObjects(deps, { version: at, objects, deletes });
    deps.changed?.([...new Set([...before, ...keysOf(deps.index, objects)])], epoch);
  };
  const start = (): Promise<void> => {
    const mine = read().finally(() => {
      if (running === mine) running = undefined;
    });
    running = mine;
    return mine;
  };
  const refresh = (): Promise<void> => {
    if (running === undefined) return start();
    next ??= running
      .catch(() => undefined)
      .then(() => {
        next = undefined;
        return start();
      });
    return next;
  };

  return {
    async load() {
      let version = deps.index.version;
      for await (const { at, objects } of loadAll(deps.db)) {
        version = at;
        // Half of the objects must not pass for all: the version is set with the last of them.
        applyObjects(deps, { version: deps.index.version, objects, deletes: [] });
      }
      deps.index.apply({
        version,
        deletes: [],
        upserts: { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [] },
      });
    },
    async catchUp(minVersion) {
      if (minVersion !== undefined && deps.index.version >= minVersion) return;
      await refresh();
    },
  };
}

/** What releases may rest on these objects, by the keys that would kill them. */
function keysOf(index: MutableTrustIndex, objects: readonly { kind: TrustKind; name: string }[]): string[] {
  return objects.flatMap(({ kind, name }) => {
    if (kind === "operators") return [deathKeys.operator(name)];
    // What a channel brought was decided when it was brought.
    if (kind === "channels") return [];
    if (kind !== "grants") return [killKey(KINDS[kind], name)];
    const grant = index.grantByName(name);
    return grant === undefined ? [] : [killKey("agent", grant.agent)];
  });
}

const KINDS = { issuers: "issuer", agents: "agent", resources: "resource" } as const;

function applyObjects(
  deps: MirrorDeps,
  change: { version: number; objects: readonly StoredObject[]; deletes: readonly { kind: TrustKind; name: string }[] },
): void {
  const deletes = [...change.deletes];
  const upserts = {
    issuers: [] as Issuer[],
    agents: [] as Agent[],
    resources: [] as Resource[],
    grants: [] as Grant[],
    operators: [] as Operator[],
    channels: [] as Channel[],
  };
  for (const { kind, name, body } of change.objects) {
    const reading = readTrustObject(kind, name, body, { issuerUrl: deps.issuerUrl, stored: true });
    if (reading.ok) (upserts[kind] as unknown[]).push(reading.value.model);
    else {
      // Nothing is permitted by what cannot be read; everything else goes on.
      deletes.push({ kind, name });
      deps.log.error("trust.unreadable", { kind, name, note: "this trust object is ignored; apply it again" });
    }
  }
  deps.index.apply({ version: change.version, deletes, upserts });
}
