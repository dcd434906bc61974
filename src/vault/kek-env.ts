import type { KeyEncryptionKey } from "./envelope.ts";
import { KekRefusedError, readKek } from "./kek-text.ts";

/**
 * The key in an environment variable.
 *
 * @param readEnvironment handed in by the configuration, the only reader of the environment
 * @throws {KekRefusedError} `missing`, `empty`, `line_break`, `length`, `characters`, `example`
 */
export function openKekVariable(name: string, readEnvironment: (name: string) => string | undefined): KeyEncryptionKey {
  const text = readEnvironment(name);
  if (text === undefined) {
    throw new KekRefusedError(
      "missing",
      `kek: the environment variable ${name} is not set; set it, or name another source`,
    );
  }
  return readKek(text, `environment variable ${name}`);
}
