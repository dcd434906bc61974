import { unlink } from "node:fs/promises";
import type { Db } from "../db/database.ts";
import { createPrivateFile, PrivateFileError, readPrivateFile } from "../system/private-file.ts";
import type { SecretBytes } from "../vault/secret-bytes.ts";
import { isOperatorKeyShaped, makeOperatorKey, operatorKeyHash } from "./operator-key.ts";
import { currentKeyHash, insertFirstKey, replaceKey, wasReplaced } from "./store.ts";

/** Replicas with different seeds that start at once replace each other's key; each of them tries this often. */
const REPLACE_ATTEMPTS = 3;

/** What the start found or did about the operator key. */
export type OperatorKeyOutcome =
  /** Made now: in the file at `path`, and here once, for a terminal. Wipe it. */
  | { readonly kind: "created"; readonly path: string; readonly key: SecretBytes }
  /** The file at `path` holds the key that works. */
  | { readonly kind: "kept"; readonly path: string }
  /** The file at `path`, named by the configuration, took the place of another key, which is dead now. */
  | { readonly kind: "replaced"; readonly path: string }
  /** The database has a key that this machine's data folder does not hold: another replica made it, or a seed did. */
  | { readonly kind: "elsewhere"; readonly stalePath?: string };

/** The start stops: the file named for the operator key cannot be it. Never quotes it. */
export class OperatorKeyRefusedError extends Error {
  readonly code: "malformed" | "superseded";

  constructor(code: "malformed" | "superseded", path: string) {
    super(
      code === "malformed"
        ? `${path} must hold an operator key: ephor_op_ and at least 43 base64url characters (256 random bits)`
        : `${path} holds an operator key that was replaced by a newer one; put the newer one, or a new one, there`,
    );
    this.name = "OperatorKeyRefusedError";
    this.code = code;
  }
}

/**
 * Sees to it that there is an operator key. The database decides which one works: a key is made only where it has none,
 * so a second replica with a data folder of its own makes no second key. A seed file, where the configuration names one,
 * is the key: at a start with another text in it, that replaces the present one, and a replaced key never comes back.
 *
 * @param order.path the file in the data folder
 * @param order.seedPath the file that the configuration names (`EPHOR_OPERATOR_KEY_FILE`)
 * @param order.seed the same, already read by the configuration
 * @param order.nowMs milliseconds since the epoch, by the database's clock
 * @throws {OperatorKeyRefusedError} `malformed`, `superseded`
 * @throws {PrivateFileError} `missing` (the seed), `readable_by_others`, `not_a_file`, `too_large`
 */
export async function ensureOperatorKey(
  db: Db,
  order: { path: string; seedPath?: string; seed?: string; nowMs: number },
): Promise<OperatorKeyOutcome> {
  const { path, seedPath, nowMs } = order;
  const atMs = Math.floor(nowMs);
  if (seedPath !== undefined)
    return seed(db, { path: seedPath, keyHash: await readHash(seedPath, { groupMay: true }) }, atMs);
  if (order.seed !== undefined)
    return seed(db, { path: "operator_key", keyHash: hashOf(order.seed, "operator_key") }, atMs);

  // The database before the file: a process of this folder that makes both writes the file first.
  const isThereOne = (await currentKeyHash(db)) !== undefined;
  const found = await readHashIfThere(path);
  if (found !== undefined) return adopt(db, { path, keyHash: found, atMs });
  if (isThereOne) return { kind: "elsewhere" };

  const key = makeOperatorKey();
  const isOurs = await key.use((bytes) => createPrivateFile(path, bytes));
  if (!isOurs) {
    // Another process of this folder made the file a moment ago.
    key.wipe();
    return adopt(db, { path, keyHash: await readHash(path), atMs });
  }
  const keyHash = key.use(operatorKeyHash);
  await insertFirstKey(db, keyHash, atMs);
  if ((await currentKeyHash(db)) === keyHash) return { kind: "created", path, key };
  // A replica with another folder was first: this key opens nothing, and must not look as if it did.
  key.wipe();
  await unlink(path);
  return { kind: "elsewhere" };
}

/**
 * What to tell the person at the terminal.
 *
 * @param isTerminal whether they, and not a log, read it: only then is a new key itself shown
 */
export function operatorKeyNotice(outcome: OperatorKeyOutcome, isTerminal: boolean): string {
  if (outcome.kind === "created") {
    const shown = isTerminal ? `\n  ${outcome.key.use((bytes) => Buffer.from(bytes).toString("latin1"))}` : "";
    return `operator key made, in ${outcome.path}${shown}`;
  }
  if (outcome.kind === "kept") return `operator key in ${outcome.path}`;
  if (outcome.kind === "replaced") return `operator key replaced by the one in ${outcome.path}`;
  const stale =
    outcome.stalePath === undefined ? "" : `; the one in ${outcome.stalePath} is another one and opens nothing`;
  return `the database's operator key was made elsewhere and is not in this data folder${stale}`;
}

async function seed(db: Db, from: { path: string; keyHash: string }, atMs: number): Promise<OperatorKeyOutcome> {
  const { path, keyHash } = from;
  await insertFirstKey(db, keyHash, atMs);
  for (let attempt = 0; attempt < REPLACE_ATTEMPTS; attempt++) {
    const current = await currentKeyHash(db);
    if (current === keyHash) return { kind: attempt === 0 ? "kept" : "replaced", path };
    if (current === undefined || (await wasReplaced(db, keyHash))) break;
    await replaceKey(db, { from: current, to: keyHash, atMs });
  }
  throw new OperatorKeyRefusedError("superseded", path);
}

/** A key file that was there before: it is the key of a database that has none. */
async function adopt(
  db: Db,
  { path, keyHash, atMs }: { path: string; keyHash: string; atMs: number },
): Promise<OperatorKeyOutcome> {
  await insertFirstKey(db, keyHash, atMs);
  return (await currentKeyHash(db)) === keyHash ? { kind: "kept", path } : { kind: "elsewhere", stalePath: path };
}

async function readHashIfThere(path: string): Promise<string | undefined> {
  try {
    return await readHash(path);
  } catch (error) {
    if (error instanceof PrivateFileError && error.code === "missing") return undefined;
    throw error;
  }
}

/** The hash of the key in a file; one line break at its end is no part of it. */
async function readHash(path: string, options: { groupMay?: boolean } = {}): Promise<string> {
  const content = await readPrivateFile(path, options);
  const text = Buffer.from(content.buffer, content.byteOffset, content.byteLength)
    .toString("latin1")
    .replace(/\r?\n$/, "");
  content.fill(0);
  return hashOf(text, path);
}

function hashOf(text: string, path: string): string {
  if (!isOperatorKeyShaped(text)) throw new OperatorKeyRefusedError("malformed", path);
  return operatorKeyHash(text);
}
