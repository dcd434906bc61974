import type { KeyEncryptionKey } from "./envelope.ts";
import { openKekVariable } from "./kek-env.ts";
import { openKekFile } from "./kek-file.ts";
import { openRootKey, type RootShelf, type RootWrapper } from "./kek-root.ts";
import { KekRefusedError } from "./kek-text.ts";

const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** What opening the key-encryption key needs of the house. */
export interface KekSurroundings {
  /** Reads one environment variable; handed in by the configuration. */
  readonly readEnvironment: (name: string) => string | undefined;
  /** Whether nothing in the database is sealed yet, so that a missing key file may be made. */
  readonly mayCreate: () => Promise<boolean>;
  /** What wraps the root key, for a source that is a service. */
  readonly wrapper?: () => RootWrapper | undefined;
  readonly shelf?: RootShelf;
}

/**
 * The key-encryption key that the configuration names as `kek`.
 *
 * @param source `file:PATH`, `env:NAME`, `awskms:ARN` or `vault-transit:URL#key`
 * @throws {KekRefusedError} `malformed` for anything else, and what the key itself is refused for
 * @throws {PrivateFileError} when the file is not private
 */
export async function openKek(source: string, surroundings: KekSurroundings): Promise<KeyEncryptionKey> {
  const colon = source.indexOf(":");
  const kind = source.slice(0, Math.max(colon, 0));
  const rest = source.slice(colon + 1);
  if (kind === "file" && rest !== "") return openKekFile(rest, surroundings.mayCreate);
  if (kind === "env" && ENVIRONMENT_NAME.test(rest)) return openKekVariable(rest, surroundings.readEnvironment);
  const wrapper = surroundings.wrapper?.();
  if (wrapper !== undefined && surroundings.shelf !== undefined) return await openRootKey(wrapper, surroundings.shelf);
  // The value is not quoted: somebody may have put the key itself here.
  throw new KekRefusedError("malformed", "kek: must be file:PATH, env:NAME, awskms:ARN or vault-transit:URL#key");
}
