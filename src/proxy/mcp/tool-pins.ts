import type { EventDraft } from "../../audit/event.ts";
import type { Recorder } from "../../audit/recorder.ts";
import { canonicalJson } from "../../core/canonical-json.ts";
import { askerKilled, askerParam, type Asker } from "../../core/kill/asker.ts";
import type { Db } from "../../db/database.ts";
import { createLane } from "../../db/lane.ts";
import type { DatabaseClock } from "../../system/clock.ts";
import { sha256Hex } from "../../system/hash.ts";
import { createRecent } from "../../system/recent.ts";
import type { McpResource } from "../upstream.ts";
import { annotationsOf, isAcceptable, type ToolAnnotations, type ToolDefinition } from "./tool-definition.ts";

/** Tools of one server that are kept, pinned or waiting; what a server shows beyond is hidden and leaves no trace. */
const MAX_TOOLS = 4_000;

/** Accepted tools that a replica remembers. */
const MAX_REMEMBERED = 10_000;

/** Which server's tools: a resource by its name, and the digest of what says which server it is. */
export interface ToolServer {
  readonly resource: string;
  readonly entry: string;
}

/** Whose message it was that something was found by, for the record. */
export type Finder = Pick<EventDraft, "agent" | "sub" | "txn" | "jti" | "requestId">;

/** How a tool stands. */
export type PinStatus = "pinned" | "changed" | "new";

/** What is known of a tool that is to be called. */
export interface PinnedTool {
  /** Undefined for one that no list ever showed. */
  readonly status: PinStatus | undefined;
  /** Of the accepted definition, where there is one. */
  readonly hash: string | undefined;
  readonly annotations: ToolAnnotations | undefined;
}

/** A tool as a list is compared with it. */
export interface KnownPin {
  readonly status: PinStatus;
  /** Of the accepted definition. */
  readonly hash: string | undefined;
  /** Of the one that waits to be accepted. */
  readonly seenHash: string | undefined;
}

/** A tool as it is kept. Times are milliseconds by the database's clock. */
export interface ToolPin {
  readonly tool: string;
  readonly status: PinStatus;
  readonly hash: string | null;
  readonly definition: string | null;
  readonly seen_hash: string | null;
  readonly seen_definition: string | null;
  readonly changed_at_ms: number | null;
  readonly accepted_at_ms: number | null;
  readonly accepted_by: string | null;
}

/** The pinned definitions of MCP servers' tools, in the database: what one replica found holds for all. */
export interface ToolPins {
  /** @returns undefined where the server was never listed */
  find(server: ToolServer, tool: string): Promise<PinnedTool | undefined>;
  /** An accepted tool as it was found last. It may be so no more: who goes by it has the gate compare it. */
  recall(server: ToolServer, tool: string): PinnedTool | undefined;
  /** All of a server's, by name. @returns undefined where it was never listed */
  known(server: ToolServer): Promise<ReadonlyMap<string, KnownPin> | undefined>;
  /** Pins what the first complete list showed; where somebody else was first, his stands. */
  begin(server: ToolServer, tools: readonly ToolDefinition[], by: Finder): Promise<void>;
  /** Keeps what was seen in place of what is pinned, and records it, once for each change. */
  found(server: ToolServer, tool: ToolDefinition, by: Finder & { readonly pinned: string | undefined }): Promise<void>;
  list(server: ToolServer): Promise<{ pinnedAtMs: number; tools: ToolPin[] } | undefined>;
  read(server: ToolServer, tool: string): Promise<ToolPin | undefined>;
  /**
   * @returns false where what was last seen is not that any more
   * @throws {InvalidTokenError} `killed`: whoever asks for it was
   */
  accept(
    server: ToolServer,
    pin: ToolPin,
    by: { readonly actor: string; readonly requestId: string; readonly asker?: Asker | undefined },
  ): Promise<boolean>;
}

/** A resource of the trust index never changes: another version of it is another object. */
const servers = new WeakMap<McpResource, ToolServer>();

/** The server behind a resource. Its credential, headers and routes may change without its being another. */
export function toolServerOf(resource: McpResource): ToolServer {
  const known = servers.get(resource);
  if (known !== undefined) return known;
  const entry = sha256Hex(canonicalJson([resource.kind, resource.settings["mcp"] ?? null]));
  const server = { resource: resource.name, entry };
  servers.set(resource, server);
  return server;
}

interface FoundRow {
  readonly resource: string;
  readonly entry: string;
  readonly tool: string;
  readonly known: boolean;
  readonly status: PinStatus | null;
  readonly hash: string | null;
  readonly annotations: ToolAnnotations | null;
}

/** One statement for everyone who waits. */
const FIND = `select k.resource, k.entry, k.tool, s.entry is not null as known, p.status, p.hash, p.annotations
  from (select distinct * from unnest($1::text[], $2::text[], $3::text[]) as u(resource, entry, tool)) k
  left join ephor.tool_servers s on s.resource = k.resource and s.entry = k.entry
  left join ephor.tool_pins p on p.resource = k.resource and p.entry = k.entry and p.tool = k.tool`;

/** All of it or nothing; the event goes into the ledger with it, once. */
const BEGIN = `with begun as (
    insert into ephor.tool_servers (resource, entry, pinned_at_ms) values ($1, $2, $3) on conflict do nothing returning 1
  ), pins as (
    insert into ephor.tool_pins
      (resource, entry, tool, status, hash, definition, annotations, seen_hash, seen_definition, changed_at_ms, accepted_at_ms)
    select $1, $2, t.tool, t.status, t.hash, t.definition, t.annotations, t.seen_hash, t.seen_definition,
      case t.status when 'new' then $3::bigint end, case t.status when 'pinned' then $3::bigint end
    from begun, jsonb_to_recordset($4::jsonb) as t(tool text, status text, hash text, definition text, annotations jsonb,
      seen_hash text, seen_definition text)
    returning 1
  )
  select ephor.record_control($3, $5::jsonb) from begun`;

/** A change is one where neither what is accepted nor what was seen last is this. It stays one until it is accepted. */
const FOUND = `with found as (
    insert into ephor.tool_pins as p (resource, entry, tool, status, seen_hash, seen_definition, changed_at_ms)
    select $1, $2, $3, 'new', $4, $5, $6
    where exists (select 1 from ephor.tool_pins where resource = $1 and entry = $2 and tool = $3)
      or (select count(*) from ephor.tool_pins where resource = $1 and entry = $2) < ${MAX_TOOLS}
    on conflict (resource, entry, tool) do update set
      status = case p.status when 'new' then 'new' else 'changed' end,
      seen_hash = excluded.seen_hash, seen_definition = excluded.seen_definition, changed_at_ms = excluded.changed_at_ms
    where p.seen_hash is distinct from excluded.seen_hash and not (p.status = 'pinned' and p.hash = excluded.seen_hash)
    returning 1
  )
  select ephor.record_control($6, $7::jsonb) from found`;

const ACCEPT = `with asker as materialized (select ephor.asker_lives($9::jsonb, $6) as lives), accepted as (
    update ephor.tool_pins set status = 'pinned', hash = seen_hash, definition = seen_definition, annotations = $5::jsonb,
      seen_hash = null, seen_definition = null, accepted_at_ms = $6, accepted_by = $7
    where resource = $1 and entry = $2 and tool = $3 and status <> 'pinned' and seen_hash = $4 and (select lives from asker)
    returning 1
  ), recorded as materialized (select ephor.record_control($6, $8::jsonb) from accepted)
  select lives, exists (select 1 from recorded) as accepted from asker`;

const PIN = `tool, status, hash, definition, seen_hash, seen_definition, changed_at_ms, accepted_at_ms, accepted_by`;

/** @param deps.db one connection of its own carries what calls wait for */
export function createToolPins(deps: { db: Db; clock: DatabaseClock; recorder: Pick<Recorder, "draft"> }): ToolPins {
  const { db, clock, recorder } = deps;
  const connection = db.dedicated("tool pins");
  const nowMs = (): number => Math.floor(clock.nowMs());
  const remembered = createRecent<PinnedTool>(MAX_REMEMBERED);
  const keyOf = (of: ToolServer & { readonly tool: string }): string => `${of.resource} ${of.entry} ${of.tool}`;
  const lane = createLane(async (asked: readonly (ToolServer & { readonly tool: string })[]) => {
    const rows = await connection.call<FoundRow>("tool pins", FIND, [
      asked.map(({ resource }) => resource),
      asked.map(({ entry }) => entry),
      asked.map(({ tool }) => tool),
    ]);
    const byKey = new Map(rows.map((row) => [keyOf(row), row]));
    return asked.map((one) => byKey.get(keyOf(one)));
  });

  return {
    async find(server, tool) {
      const row = await lane.submit({ ...server, tool });
      if (row?.known !== true) return undefined;
      const found: PinnedTool = {
        status: row.status ?? undefined,
        hash: row.hash ?? undefined,
        annotations: row.annotations ?? undefined,
      };
      const key = keyOf({ ...server, tool });
      // One that is no more accepted is remembered as that: it is asked for each time. Names that nobody ever accepted fill nothing.
      if (found.status === "pinned" || remembered.get(key) !== undefined) remembered.set(key, found);
      return found;
    },
    recall(server, tool) {
      const found = remembered.get(keyOf({ ...server, tool }));
      return found?.status === "pinned" ? found : undefined;
    },
    async known({ resource, entry }) {
      const rows = await db.query<{ tool: string | null; status: PinStatus; hash: string | null; seen: string | null }>(
        `select p.tool, p.status, p.hash, p.seen_hash as seen from ephor.tool_servers s
         left join ephor.tool_pins p on p.resource = s.resource and p.entry = s.entry
         where s.resource = $1 and s.entry = $2`,
        [resource, entry],
      );
      if (rows.length === 0) return undefined;
      const pins = rows.flatMap(({ tool, status, hash, seen }) =>
        tool === null ? [] : [[tool, { status, hash: hash ?? undefined, seenHash: seen ?? undefined }] as const],
      );
      return new Map(pins);
    },
    async begin({ resource, entry }, tools, by) {
      const kept = tools
        .slice(0, MAX_TOOLS)
        .map(({ name, hash, text }) =>
          isAcceptable(text)
            ? { tool: name, status: "pinned", hash, definition: text, annotations: annotationsOf(text) }
            : { tool: name, status: "new", seen_hash: hash, seen_definition: text },
        );
      const facts = {
        tools: kept.length,
        names: kept.slice(0, 100).map(({ tool }) => tool),
        hidden: kept.filter(({ status }) => status === "new").length,
        definitions: sha256Hex(canonicalJson(tools.map(({ name, hash }) => [name, hash]))),
      };
      const event = recorder.draft({ type: "tools.pin", ...by, resource, facts }, "noted");
      await db.query(BEGIN, [resource, entry, nowMs(), JSON.stringify(kept), JSON.stringify(event)]);
    },
    async found({ resource, entry }, { name, hash, text }, { pinned, ...by }) {
      const facts = { tool: name, change: pinned === undefined ? "new" : "changed", pinned, seen: hash };
      const event = recorder.draft({ type: "tools.change", ...by, resource, facts }, "noted");
      await db.query(FOUND, [resource, entry, name, hash, text, nowMs(), JSON.stringify(event)]);
    },
    ...operatorsPins(deps),
  };
}

/** What operators do with them. */
function operatorsPins(deps: {
  db: Db;
  clock: DatabaseClock;
  recorder: Pick<Recorder, "draft">;
}): Pick<ToolPins, "list" | "read" | "accept"> {
  const { db, clock, recorder } = deps;
  return {
    async list({ resource, entry }) {
      const [server] = await db.query<{ at: number }>(
        "select pinned_at_ms as at from ephor.tool_servers where resource = $1 and entry = $2",
        [resource, entry],
      );
      if (server === undefined) return undefined;
      const tools = await db.query<ToolPin>(
        `select ${PIN} from ephor.tool_pins where resource = $1 and entry = $2 order by tool collate "C"`,
        [resource, entry],
      );
      return { pinnedAtMs: server.at, tools };
    },
    async read({ resource, entry }, tool) {
      const [pin] = await db.query<ToolPin>(
        `select ${PIN} from ephor.tool_pins where resource = $1 and entry = $2 and tool = $3`,
        [resource, entry, tool],
      );
      return pin;
    },
    async accept({ resource, entry }, { tool, hash, seen_hash: seen, seen_definition: text }, by) {
      const { actor, requestId, asker } = by;
      if (seen === null || text === null || !isAcceptable(text)) return false;
      const facts = { tool, before: hash ?? undefined, accepted: seen };
      const event = recorder.draft({ type: "tools.accept", agent: actor, requestId, resource, facts }, "granted");
      const [row] = await db.query<{ lives: boolean; accepted: boolean }>(ACCEPT, [
        resource,
        entry,
        tool,
        seen,
        JSON.stringify(annotationsOf(text)),
        Math.floor(clock.nowMs()),
        actor,
        JSON.stringify(event),
        askerParam(asker),
      ]);
      if (row?.lives === false) throw askerKilled();
      return row?.accepted === true;
    },
  };
}
