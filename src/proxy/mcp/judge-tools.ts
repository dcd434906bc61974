import { isObserving } from "../../core/grants/decide.ts";
import type { Reason } from "../../core/oauth/reasons.ts";
import type { ProxiedCall } from "../decided.ts";
import type { OfTool } from "../recalled.ts";
import { listTools, ListingRefusedError, type ListingDeps, type ListingOrder } from "./list-tools.ts";
import { definitionsOf, toolNameOf, UNSAID, type ToolDefinition } from "./tool-definition.ts";
import {
  toolServerOf,
  type Finder,
  type KnownPin,
  type PinnedTool,
  type ToolPins,
  type ToolServer,
} from "./tool-pins.ts";

/** Changes that one list may leave in the record; the next list finds the others. All are hidden. */
const MAX_FOUND = 64;

/** What judging tools needs beside the proxy. */
export interface ToolDeps extends ListingDeps {
  readonly toolPins: ToolPins;
}

/** What a list may show of a server's tools. */
export interface ToolWatch {
  /** The entries whose definitions are pinned as they are; the others are found. */
  shown(entries: readonly unknown[]): readonly unknown[];
  /** Resolves when what was found is kept and recorded. Nothing of the list may leave before. */
  settled(): Promise<void>;
}

/** One message, with what is to be known of the tools in it. */
export interface ToolOrder extends ListingOrder {
  readonly call: ProxiedCall;
}

/**
 * Looks up the tool that a message calls, or makes ready for the list that it asks for. A server's tools are pinned before
 * its first list and its first call: where nobody has listed it yet, that is done here (CONTRACT §8).
 *
 * @throws what {@link listTools} throws
 */
export async function judgeTools(
  deps: ToolDeps,
  order: ToolOrder,
): Promise<{ call: ProxiedCall; watch: ToolWatch | undefined }> {
  const { message, resource, call } = order;
  const server = toolServerOf(resource);
  if (message.method === "tools/list") return { call, watch: await watchList(deps, order, server) };
  const tool = message.method === "tools/call" ? call.call["tool"] : undefined;
  if (typeof tool !== "string") return { call, watch: undefined };
  const find = (): Promise<PinnedTool | undefined> => deps.toolPins.find(server, tool);
  const at = { call, entry: server.entry, name: tool };
  const again = async (): Promise<OfTool> =>
    calling(at, (await find()) ?? (await pinned(deps, order, { server, again: find })));
  const recalled = deps.toolPins.recall(server, tool);
  const isRecalled = recalled?.hash !== undefined;
  const known = isRecalled ? calling(at, recalled) : await again();
  return { call: { ...call, ...known, tool: { again, isRecalled } }, watch: undefined };
}

/** What its tool was accepted as makes of a call. */
function calling(
  { call, entry, name }: { call: ProxiedCall; entry: string; name: string },
  { status, hash, annotations }: PinnedTool,
): OfTool {
  const reason: Reason | undefined =
    status === "pinned" ? undefined : status === "changed" ? "tool_quarantined" : "tool_unknown";
  return {
    call: { ...call.call, annotations: annotations ?? UNSAID },
    facts: { ...call.facts, definition: hash },
    toolHash: hash,
    pin: status === "pinned" && hash !== undefined ? { entry, tool: name, hash } : undefined,
    ...(reason !== undefined && { blocked: { reason, facts: { pin: status ?? "none" } } }),
  };
}

async function watchList(deps: ToolDeps, order: ToolOrder, server: ToolServer): Promise<ToolWatch> {
  const again = (): Promise<ReadonlyMap<string, KnownPin> | undefined> => deps.toolPins.known(server);
  const known =
    (await again()) ??
    (await pinned(deps, order, { server, again }).catch((error: unknown) => {
      // The caller asks the same and is told the same; whatever it would show is not pinned, and so hidden.
      if (error instanceof ListingRefusedError) return undefined;
      throw error;
    }));
  const isObserved = isObserving(order.resource, deps.clock.now());
  const found: ToolDefinition[] = [];
  return {
    shown(entries) {
      const definitions = definitionsOf(entries);
      for (const [name, one] of definitions) if (isNews(known?.get(name), one)) found.push(one);
      if (isObserved) return entries;
      return entries.filter((entry) => {
        const name = toolNameOf(entry);
        const pin = name === undefined ? undefined : known?.get(name);
        return name !== undefined && pin?.status === "pinned" && pin.hash === definitions.get(name)?.hash;
      });
    },
    async settled() {
      if (known === undefined) return;
      for (const one of found.splice(0).slice(0, MAX_FOUND))
        await deps.toolPins.found(server, one, { ...finderOf(order), pinned: known.get(one.name)?.hash });
    },
  };
}

function isNews(pin: KnownPin | undefined, { hash }: ToolDefinition): boolean {
  return hash !== (pin?.status === "pinned" ? pin.hash : pin?.seenHash);
}

/** Pins what the server shows now, unless somebody else did meanwhile, and reads what holds. */
async function pinned<T>(
  deps: ToolDeps,
  order: ToolOrder,
  of: { server: ToolServer; again: () => Promise<T | undefined> },
): Promise<T> {
  const tools = definitionsOf(await listTools(deps, order));
  await deps.toolPins.begin(of.server, [...tools.values()], finderOf(order));
  const known = await of.again();
  if (known === undefined) throw new Error("what was pinned is not there");
  return known;
}

function finderOf({ holder, request }: ToolOrder): Finder {
  const { claims, state } = holder.token;
  return {
    agent: holder.agent.name,
    sub: claims.sub,
    txn: state.txn,
    jti: claims.jti,
    requestId: request.presented.requestId,
  };
}
