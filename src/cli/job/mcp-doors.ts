import { createHouse } from "../../sdk/client/house.ts";
import type { CliContext } from "../context.ts";
import { createAccess, reasonOf } from "../mcp/access.ts";
import { openMcpDoor, type McpDoor } from "../mcp/http-door.ts";
import { requireServed } from "../mcp/post.ts";
import type { Prover } from "../proof.ts";
import { refuseStranger, StrangerError } from "./peer.ts";

/** A command's own MCP servers on loopback. */
export interface McpDoors {
  /** Where the command finds them: `EPHOR_MCP_<NAME>_URL`. */
  readonly env: Readonly<Record<string, string>>;
  /** From now on descendants of this process may call; before, nobody. */
  admit(commandPid: number): void;
  close(): Promise<void>;
}

/**
 * Opens a door for each resource. What is not granted is told here, and not at the command's first call.
 *
 * @param o.txn the command's task
 * @throws whatever the exchange throws
 */
export async function openMcpDoors(
  context: CliContext,
  o: { prove: Prover; txn: string; resources: readonly string[] },
): Promise<McpDoors> {
  const { url } = context.settings;
  const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
  const house = createHouse({ url, proof: o.prove, isBound: false, clock });
  const doors = new Map<string, McpDoor>();
  const close = async (): Promise<void> => void (await Promise.all([...doors.values()].map((door) => door.close())));
  let pid: number | undefined;
  try {
    for (const resource of o.resources) {
      const access = createAccess({ house, place: { txn: o.txn, node: o.txn }, resource });
      const isUsable = requireServed({ url, resource }).then(() => access.token());
      await isUsable.catch((error: unknown) => {
        throw reasonOf(error);
      });
      const door = await openMcpDoor({
        url,
        resource,
        access,
        port: 0,
        async admit(peer) {
          if (pid === undefined) throw new StrangerError("the command has not started");
          await refuseStranger(peer, pid);
        },
        refused: (why) => context.say(`ephor run: somebody was sent away from the door of ${resource}: ${why}`),
        killed: (error) => context.say(`ephor run: ${resource}: ${error.message}`),
      });
      doors.set(resource, door);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const env = Object.fromEntries([...doors].map(([name, door]) => [variableOf(name), door.url]));
  return { env, close, admit: (commandPid) => void (pid = commandPid) };
}

function variableOf(resource: string): string {
  return `EPHOR_MCP_${resource.toUpperCase().replaceAll("-", "_")}_URL`;
}
