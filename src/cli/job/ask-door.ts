import { readFile } from "node:fs/promises";
import { ConnectionError } from "../../sdk/client/errors.ts";
import { callJson, isRecord } from "../../sdk/client/wire.ts";
import { isVended, type Vended } from "../../sdk/client/vend.ts";
import { CliFailure } from "../exit-code.ts";

/**
 * Asks the local door of the `ephor run` above us.
 *
 * @param path of the file that {@link HANDLE_VARIABLE} names
 * @throws {CliFailure} the command has ended, or was not given this resource
 */
export async function askDoor(path: string, resource: string): Promise<Vended> {
  const { origin, token } = await readHandle(path);
  try {
    const { json } = await callJson(origin, {
      method: "GET",
      path: `/credential/${resource}`,
      headers: { authorization: `Bearer ${token}` },
    });
    if (!isVended(json)) throw new ConnectionError("not_ephor");
    return json;
  } catch (error) {
    throw new CliFailure(`ephor run did not give ${resource}; it has said why on its standard error`, { cause: error });
  }
}

async function readHandle(path: string): Promise<{ origin: string; token: string }> {
  try {
    const handle: unknown = JSON.parse(await readFile(path, "utf8"));
    if (isRecord(handle) && typeof handle["origin"] === "string" && typeof handle["token_file"] === "string")
      return { origin: handle["origin"], token: (await readFile(handle["token_file"], "utf8")).trim() };
  } catch {
    // Told below, like a file that says something else.
  }
  throw new CliFailure("the ephor run that started this is over");
}
