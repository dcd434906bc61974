import type { Recorder } from "../audit/recorder.ts";
import { ProblemError } from "../api/problem.ts";
import type { ToolsAccepted, ToolView } from "../api/tools.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Call, Rooms } from "../http/rooms.ts";
import { annotationsOf, isAcceptable } from "../proxy/mcp/tool-definition.ts";
import { toolServerOf, type ToolPin, type ToolPins, type ToolServer } from "../proxy/mcp/tool-pins.ts";
import { differences } from "../registry/difference.ts";
import { askerOf, unlessKilled } from "./asker.ts";
import { actorOf, instantOf } from "./wire.ts";

/** Pinned tools, as the routes call them. */
export function toolRoom(pins: ToolPins, trust: () => TrustIndex, recorder: Recorder): Rooms["tools"] {
  const serverOf = (name: string): ToolServer | undefined => {
    const resource = trust().resourceByName(name);
    return resource?.kind === "mcp" ? toolServerOf(resource) : undefined;
  };
  return {
    async list(name, only) {
      const server = serverOf(name);
      const listed = server && (await pins.list(server));
      if (server === undefined) return undefined;
      if (only === undefined) {
        const tools = (listed?.tools ?? []).map(viewOf);
        return { resource: name, ...(listed && { pinned_at: instantOf(listed.pinnedAtMs) }), tools };
      }
      const pin = listed?.tools.find(({ tool }) => tool === only);
      return listed && pin && { resource: name, pinned_at: instantOf(listed.pinnedAtMs), tools: [wholeOf(pin)] };
    },
    async accept(name, { tool, hash }, call) {
      const server = serverOf(name);
      if (server === undefined) return undefined;
      const at = { pins, server, call, recorder };
      if (tool !== undefined) {
        const pin = await pins.read(server, tool);
        return pin && { accepted: await acceptOne(at, pin, hash) };
      }
      const accepted: ToolsAccepted["accepted"] = [];
      for (const pin of (await pins.list(server))?.tools ?? [])
        if (pin.seen_definition !== null && isAcceptable(pin.seen_definition))
          accepted.push(...(await acceptOne(at, pin, undefined)));
      return { accepted };
    },
  };
}

async function acceptOne(
  at: { pins: ToolPins; server: ToolServer; call: Call; recorder: Recorder },
  pin: ToolPin,
  hash: string | undefined,
): Promise<ToolsAccepted["accepted"]> {
  const { pins, server, call, recorder } = at;
  const { tool, seen_hash: seen, seen_definition: text } = pin;
  if (hash !== undefined && hash !== (seen ?? pin.hash)) throw changedAgain();
  // It is accepted as it is.
  if (seen === null || text === null) return [];
  if (!isAcceptable(text)) throw new ProblemError("unprocessable", { detail: `the definition ${problemOf(text)}` });
  const by = { actor: actorOf(call.caller), requestId: call.request.requestId, asker: askerOf(call.caller) };
  const draft = { type: "tools.accept", facts: { resource: server.resource, tool } } as const;
  if (!(await unlessKilled(recorder, call, draft, () => pins.accept(server, pin, by)))) throw changedAgain();
  return [{ tool, hash: seen }];
}

function changedAgain(): ProblemError {
  return new ProblemError("conflict", { detail: "the definition is not the one that you saw; look at it again" });
}

function viewOf(pin: ToolPin): ToolView {
  const { status, hash, seen_hash: seen, seen_definition: text } = pin;
  return {
    name: pin.tool,
    status,
    ...(hash !== null && { hash }),
    ...(seen !== null && { seen_hash: seen }),
    ...(text !== null && !isAcceptable(text) && { problem: problemOf(text) }),
    ...(pin.definition !== null && { annotations: annotationsOf(pin.definition) }),
    ...(pin.accepted_at_ms !== null && { accepted_at: instantOf(pin.accepted_at_ms) }),
    ...(pin.accepted_by !== null && { accepted_by: pin.accepted_by }),
    ...(pin.changed_at_ms !== null && { changed_at: instantOf(pin.changed_at_ms) }),
  };
}

function wholeOf(pin: ToolPin): ToolView {
  const { definition, seen_definition: seen } = pin;
  const read = (text: string | null): unknown => (text === null ? undefined : JSON.parse(text));
  return {
    ...viewOf(pin),
    ...(definition !== null && { definition }),
    ...(seen !== null && { seen_definition: seen }),
    ...(seen !== null && { differences: differences(read(definition), read(seen)).map((one) => ({ ...one })) }),
  };
}

/** The first entry of a list is our own sentence about what follows. */
function problemOf(text: string): string {
  const [problem] = JSON.parse(text) as [string];
  return problem;
}
