import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { openKey, type HeldKey } from "../../src/keys/key-material.ts";
import { readKeys } from "../../src/keys/store.ts";
import { createEnvelope } from "../../src/vault/envelope.ts";
import { openKek } from "../../src/vault/kek.ts";
import type { World } from "../support/world.ts";
import type { Mint } from "./bad-tokens.ts";

/**
 * A key of ours, taken out of the database with the key-encryption key, so that a test can sign what Ephor never would. What
 * is refused with its signature is refused by the reader of the token alone.
 */
export async function ownKey(w: World, use: "token" | "record"): Promise<{ kid: string; privateKey: KeyObject }> {
  const kek = await openKek(`file:${join(w.data, "kek")}`, {
    readEnvironment: () => undefined,
    mayCreate: async () => false,
  });
  const row = (await readKeys(w.db, 0)).find((each) => each.use === use && each.status === "active");
  if (row === undefined) throw new Error("no active key");
  const { kid, privateKey }: HeldKey = await openKey(createEnvelope({ kek }), row);
  if (privateKey === null) throw new Error("no private key");
  return { kid, privateKey };
}

/** A live token of ours, taken apart, with the key that signed it. */
export async function mintOfOurs(w: World, token: string, elsewhere: string): Promise<Mint> {
  const { privateKey: key } = await ownKey(w, "token");
  return { header: decodeProtectedHeader(token), claims: decodeJwt(token), key, elsewhere, now: w.now() };
}
